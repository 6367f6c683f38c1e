"""The textbook CTC prefix beam search in plain Python: slow, clear, the reference for the fast ones."""

import math
from collections import defaultdict
from collections.abc import Callable
from functools import cache

from pydantic import NonNegativeFloat
from torch import Tensor

from hw_asr.decoders.base import BaseDecoder, Hypothesis
from hw_asr.decoders.checks import check_posteriors
from hw_asr.decoders.scoring.fusion import token_units
from hw_asr.decoders.scoring.tokens import describe_tokens
from hw_asr.language_models.cache import open_ngram
from hw_base.config.schema import PathText, Size
from hw_base.registry import DECODERS
from hw_base.text import BaseTextEncoder

Prefix = tuple[int, ...]
BLANK = 0


def log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))


def prefix_search(
    frames: list[list[float]], beam_size: int, bonus: Callable[[Prefix], float]
) -> list[tuple[Prefix, float]]:
    """Prefix beam search (Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition").

    A prefix has two log-probabilities, of all its alignments that end in a blank and of all that end in its last token:
    after a blank a repeated token begins again, otherwise it only lasts longer.

    Args:
        frames: natural-log posteriors, T lists of V.
        beam_size: prefixes kept after each frame.
        bonus: added to a prefix's log-probability to rank it.

    Returns:
        Prefixes with their log-probabilities, best first.
    """
    beams: dict[Prefix, tuple[float, float]] = {(): (0.0, -math.inf)}
    for frame in frames:
        blank_ended: defaultdict[Prefix, float] = defaultdict(lambda: -math.inf)
        token_ended: defaultdict[Prefix, float] = defaultdict(lambda: -math.inf)
        for prefix, (after_blank, after_token) in beams.items():
            total = log_add(after_blank, after_token)
            for token, logp in enumerate(frame):
                if token == BLANK:
                    blank_ended[prefix] = log_add(blank_ended[prefix], total + logp)
                elif prefix and prefix[-1] == token:
                    token_ended[prefix] = log_add(token_ended[prefix], after_token + logp)
                    longer = (*prefix, token)
                    token_ended[longer] = log_add(token_ended[longer], after_blank + logp)
                else:
                    longer = (*prefix, token)
                    token_ended[longer] = log_add(token_ended[longer], total + logp)
        merged = {p: (blank_ended[p], token_ended[p]) for p in {**blank_ended, **token_ended}}
        ranked = sorted(merged, key=lambda p: log_add(*merged[p]) + bonus(p), reverse=True)
        beams = {p: merged[p] for p in ranked[:beam_size]}
    return [(prefix, log_add(*ends)) for prefix, ends in beams.items()]


@DECODERS.register()
class ReferenceBeamSearch(BaseDecoder):
    """Exact prefix beam search in plain Python, with a token language model if one is given.

    Args:
        text_encoder: vocabulary of the posteriors, blank at 0.
        beam_size: prefixes kept after each frame.
        n_best: hypotheses returned.
        lm: ARPA file or KenLM binary of a token n-gram model.
        lm_weight, word_score: see ``BeamSearch``.

    Raises:
        ConfigError: the language model's words are not the tokens.
        DataError: a language model that cannot be read.
    """

    def __init__(
        self,
        text_encoder: BaseTextEncoder,
        beam_size: Size = 10,
        n_best: Size = 1,
        lm: PathText | None = None,
        lm_weight: NonNegativeFloat = 0.5,
        word_score: float = 0.0,
    ) -> None:
        super().__init__(text_encoder)
        self.beam_size, self.n_best = beam_size, n_best
        self.lm_weight, self.word_score = lm_weight if lm is not None else 0.0, word_score
        self.model = open_ngram(lm) if lm is not None else None
        self.units: list[int] = []
        if lm is not None and self.model is not None:
            self.units = token_units(lm, describe_tokens(text_encoder), self.model).tolist()

    def __call__(self, log_probs: Tensor, log_probs_length: Tensor) -> list[list[Hypothesis]]:
        check_posteriors(log_probs, log_probs_length, len(self.text_encoder))
        lengths = log_probs_length.tolist()
        return [self._decode(x[:n].double().tolist()) for x, n in zip(log_probs, lengths, strict=True)]

    def _decode(self, frames: list[list[float]]) -> list[Hypothesis]:
        @cache
        def lm_score(prefix: Prefix, end: bool) -> float:
            return self.model.score_ids([self.units[i] for i in prefix], end) if self.model else 0.0

        def bonus(prefix: Prefix, end: bool = False) -> float:
            return self.lm_weight * lm_score(prefix, end) + self.word_score * len(prefix)

        found = [
            Hypothesis(self.text_encoder.decode(p), p, logp + bonus(p, True), logp, lm_score(p, True))
            for p, logp in prefix_search(frames, self.beam_size, bonus)
        ]
        return sorted(found, key=lambda hypothesis: -hypothesis.score)[: self.n_best]
