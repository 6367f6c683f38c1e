"""Items of recognition into a batch."""

from collections.abc import Sequence

import torch

from hw_base.data.collate import Batch, Item, PadCollate, good_items
from hw_base.registry import COLLATES


@COLLATES.register()
class ASRCollate(PadCollate):
    """Pads ``waveform`` (S,), ``spectrogram`` (F, T) and ``tokens`` (L,) with zeros and adds their lengths.

    An utterance without a transcript has no ``tokens``. Where no item of a batch has any, neither has the batch; beside
    others it gets 0 tokens and a ``text`` of None, by which losses and metrics leave it out. What remains of a batch
    whose items are all None or skipped is its list ``skipped``.
    """

    def __init__(self) -> None:
        super().__init__()

    def __call__(self, items: Sequence[Item | None]) -> Batch:
        """One batch; ``skipped`` joins what the items reported."""
        kept, skipped = good_items(items)
        if any("tokens" in item for item in kept):
            no_tokens = torch.zeros(0, dtype=torch.int64)
            kept = [item if "tokens" in item else {**item, "tokens": no_tokens, "text": None} for item in kept]
        batch = super().__call__(kept)
        batch["skipped"] = skipped
        return batch
