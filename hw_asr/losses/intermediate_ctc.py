"""CTC on the posteriors of intermediate layers."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from hw_asr.losses.ctc import CTCLoss
from hw_base.errors import ConfigError
from hw_base.nn.losses import SumAndCount
from hw_base.registry import LOSSES


@LOSSES.register()
class InterCTC(nn.Module):
    """Mean of the CTC losses of the intermediate layers (Lee and Watanabe 2021, arXiv 2102.03216, equation 10).

    The paper's total is ``(1 - w) CTC + w InterCTC`` with w = 0.3 to 0.66: weights of two losses in a config.

    Args:
        normalize_by_length: see `CTCLoss`.
        on_misfit: see `CTCLoss`.
    """

    def __init__(self, normalize_by_length: bool = True, on_misfit: Literal["skip", "fail"] = "skip") -> None:
        super().__init__()
        self.ctc = CTCLoss(normalize_by_length, on_misfit)

    def forward(
        self,
        log_probs_length: Tensor,
        tokens: Tensor,
        tokens_length: Tensor,
        utterance_id: Sequence[str],
        text: Sequence[str | None] | None = None,
        intermediate_log_probs: Tensor | None = None,
        **batch: Any,
    ) -> SumAndCount:
        """Mean over the layers and over the utterances that have a transcript.

        Args:
            log_probs_length (Tensor): (B,), int64.
            tokens (Tensor): (B, L), int64.
            tokens_length (Tensor): (B,), int64.
            utterance_id: names for messages.
            text: see `CTCLoss`.
            intermediate_log_probs (Tensor): natural log, normalized, (K, B, T, V).
            batch: not used.

        Raises:
            ConfigError: the model gives no intermediate posteriors.
            DataError: see `CTCLoss`.
        """
        if intermediate_log_probs is None:
            raise ConfigError("InterCTC: the model gives no intermediate posteriors; name its intermediate_layers")
        n_layers = len(intermediate_log_probs)
        mean: SumAndCount = self.ctc(
            log_probs=intermediate_log_probs.flatten(0, 1),
            log_probs_length=log_probs_length.repeat(n_layers),
            tokens=tokens.repeat(n_layers, 1),
            tokens_length=tokens_length.repeat(n_layers),
            utterance_id=list(utterance_id) * n_layers,
            text=None if text is None else list(text) * n_layers,
        )
        # As many terms as CTC itself has, so that the two agree on what one utterance weighs.
        return SumAndCount(mean.total / n_layers, mean.count / n_layers)
