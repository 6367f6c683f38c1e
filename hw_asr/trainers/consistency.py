"""Training with two views of each utterance (CR-CTC)."""

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import NonNegativeInt
from torch import Tensor

from hw_asr.augmentations.base import Probability
from hw_asr.augmentations.spectrogram import SpecAugment
from hw_asr.trainer import CTCTrainer
from hw_base import distributed
from hw_base.nn.losses import SumAndCount
from hw_base.registry import TRAINERS
from hw_base.training.parts import TrainerParts

# Values of a batch that hold something for each utterance and that losses look at, besides tensors.
_LISTS = ("utterance_id", "text")


@TRAINERS.register()
class ConsistencyTrainer(CTCTrainer):
    """CTC on two differently masked views of each utterance, in one batch (Yao et al. 2024, arXiv 2410.05101).

    Both views share the waveform, its augmentations and the time warp, so that frame t of one is frame t of the other;
    masks are drawn for each. The config's ``augmentations`` therefore name waveform augmentations only. A step costs
    twice as much, so the paper trains half as many epochs. In evaluation there is one view and no `ConsistencyLoss`.

    Args:
        setup: given by the program.
        n_freq_masks: this and the following as in `SpecAugment`; the paper takes 2.5 times as many time masks as usual,
            within 2.5 times the fraction.
        freq_width: of a frequency mask, in bins.
        n_time_masks: of each view.
        time_share: of a time mask, at most.
        time_warp: frames by which one frame is moved, the same in both views.
    """

    def __init__(
        self,
        setup: TrainerParts,
        n_freq_masks: NonNegativeInt = 2,
        freq_width: NonNegativeInt = 27,
        n_time_masks: NonNegativeInt = 25,
        time_share: Probability = 0.05,
        time_warp: NonNegativeInt = 0,
    ) -> None:
        super().__init__(setup)
        self.warp = SpecAugment(0, 0, 0, 0.0, time_warp)
        self.masks = SpecAugment(n_freq_masks, freq_width, n_time_masks, time_share)
        self._consistency = {n for n, s in setup.config.losses.items() if s.type == "ConsistencyLoss"}

    def losses(self, batch: dict[str, Any]) -> Iterator[tuple[str, dict[str, Tensor | SumAndCount]]]:
        if self.model.training:
            views = self.two_views(batch)
            views.update(self.networks["model"](**views))
            yield "model", {name: loss(**views) for name, loss in self.loss_modules.items()}
        else:
            batch.update(self.networks["model"](**batch))
            once = {n: loss for n, loss in self.loss_modules.items() if n not in self._consistency}
            yield "model", {name: loss(**batch) for name, loss in once.items()}

    def two_views(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch with every utterance twice: all first views, then all second ones.

        Args:
            batch: of B utterances; ``spectrogram`` (B, F, T).

        Returns:
            dict: of 2 B utterances, with ``n_views`` 2; what is drawn depends on seed, step and process alone.
        """
        generator = torch.Generator().manual_seed(self._draw_seed())
        spectrogram, length = batch["spectrogram"], batch["spectrogram_length"]
        if self.warp.time_warp:
            spectrogram = self.warp.batch(spectrogram, length, generator)
        doubled = {key: torch.cat([value, value]) for key, value in batch.items() if isinstance(value, Tensor)}
        doubled["spectrogram"] = torch.cat([self.masks.batch(spectrogram, length, generator) for _ in range(2)])
        lists = {key: [*batch[key], *batch[key]] for key in _LISTS if key in batch}
        return {**batch, **doubled, **lists, "n_views": 2}

    def _draw_seed(self) -> int:
        return ((self.setup.config.seed * 1_000_003 + self.step) * 4099 + distributed.rank()) % (1 << 63)
