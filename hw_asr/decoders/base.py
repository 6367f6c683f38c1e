"""What every decoder takes and gives."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hw_base.nn.model import BaseModel
from hw_base.text import BaseTextEncoder


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One candidate transcript.

    Attributes:
        text: decoded text.
        tokens: token ids without blanks, repeats collapsed.
        score: what hypotheses are ranked by, natural log; ``acoustic_score + lm_weight * lm_score + bonuses``.
        acoustic_score: log-probability of the tokens under the posteriors, natural log.
        lm_score: log-probability under the language model, natural log, unweighted; 0 without one.
        timesteps: for each token the frame at which it was emitted.
        token_scores: natural log of each token's probability where it was emitted; empty where the posteriors say it.
    """

    text: str
    tokens: tuple[int, ...]
    score: float
    acoustic_score: float
    lm_score: float = 0.0
    timesteps: tuple[int, ...] = ()
    token_scores: tuple[float, ...] = ()


class BaseDecoder(ABC):
    """Turns what a model gives for each frame into n-best lists.

    Args:
        text_encoder: vocabulary of the posteriors, blank at 0.

    Attributes:
        reads: the output of the model that it is called with.
        exact: a beam that holds every prefix finds the most probable text, with the probability of all its alignments;
            False for what approximates, as the best path does.
    """

    reads: ClassVar[str] = "log_probs"
    exact: ClassVar[bool] = True

    def __init__(self, text_encoder: BaseTextEncoder) -> None:
        self.text_encoder = text_encoder

    def bind(self, model: BaseModel) -> None:
        """Told once, before the first batch, whose outputs it will be given; posteriors alone say all to most."""

    @abstractmethod
    def __call__(self, log_probs: Tensor, log_probs_length: Tensor) -> list[list[Hypothesis]]:
        """Decode a batch.

        Args:
            log_probs (Tensor): natural log, normalized over the last axis, (B, T, V), float32.
            log_probs_length (Tensor): valid frames of each utterance, (B,), int64.

        Returns:
            For each utterance its hypotheses, best first; never empty: one without frames gives one empty text.
        """
