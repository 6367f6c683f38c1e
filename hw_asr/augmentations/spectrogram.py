"""SpecAugment: warped time and masked bands of frequency and time, for one spectrogram or a whole batch at once."""

from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeInt
from torch import Tensor

from hw_asr.augmentations.base import BaseAugmentation, Probability
from hw_base.config.schema import Count
from hw_base.registry import AUGMENTATIONS


@AUGMENTATIONS.register()
class SpecAugment(BaseAugmentation):
    """SpecAugment (Park et al., 2019, "SpecAugment: A Simple Data Augmentation Method for ASR", section 2).

    Masks and warp keep the shape. A time mask is at most a fraction of the utterance wide (Park et al., 2020,
    "SpecAugment on Large Scale Datasets"), so that short utterances survive. The warp moves one frame of the utterance
    and stretches both sides linearly.

    Args:
        n_freq_masks: frequency masks.
        freq_width: a frequency mask covers 0 to this many bins.
        n_time_masks: time masks.
        time_share: a time mask covers 0 to so large a fraction of the frames.
        time_warp: a frame is moved by at most this many frames; 0 warps nothing.
        fill: what masked bins become: the ``mean`` of the utterance, or ``zero`` (the mean where features are
            normalized to mean 0).
        p: probability with which an utterance is changed.
    """

    domain: ClassVar[Literal["waveform", "spectrogram"]] = "spectrogram"

    def __init__(
        self,
        n_freq_masks: Count = 2,
        freq_width: NonNegativeInt = 27,
        n_time_masks: Count = 10,
        time_share: Probability = 0.05,
        time_warp: NonNegativeInt = 0,
        fill: Literal["mean", "zero"] = "mean",
        p: Probability = 1.0,
    ) -> None:
        super().__init__(p)
        self.n_freq_masks = n_freq_masks
        self.freq_width = freq_width
        self.n_time_masks = n_time_masks
        self.time_share = time_share
        self.time_warp = time_warp
        self.fill = fill

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        if self.time_warp:
            x = self._warp(x[None], torch.tensor([x.shape[1]], device=x.device), generator)[0]
        else:
            x = x.clone()
        fill = x.mean().item() if self.fill == "mean" else 0.0
        limits = (min(self.freq_width, x.shape[0]), int(x.shape[1] * self.time_share))
        n_masks = self.n_freq_masks + self.n_time_masks
        # Plain numbers and slices: a tenth of the calls that the tensors of a batch take, and few values to write.
        draws = _rand((2, n_masks), generator, generator.device).tolist()
        for i, (width_draw, start_draw) in enumerate(zip(*draws, strict=True)):
            axis = 0 if i < self.n_freq_masks else 1
            width = int(width_draw * (limits[axis] + 1))
            x.narrow(axis, int(start_draw * (x.shape[axis] + 1 - width)), width).fill_(fill)
        return x

    def batch(self, spectrogram: Tensor, spectrogram_length: Tensor, generator: torch.Generator) -> Tensor:
        """Change every utterance of a padded batch by its own draws; padding stays as it is.

        Args:
            spectrogram (Tensor): (B, F, T), on any device.
            spectrogram_length (Tensor): valid frames, (B,), int64, on the same device.
            generator: on any device.

        Returns:
            Tensor: (B, F, T).
        """
        chosen = _rand((len(spectrogram),), generator, spectrogram.device) < self.p
        # An utterance of no frames is left as it is.
        return self._augment(spectrogram, spectrogram_length * chosen, generator)

    def _augment(self, x: Tensor, length: Tensor, generator: torch.Generator) -> Tensor:
        if self.time_warp:
            x = self._warp(x, length, generator)
        _, n_bins, n_frames = x.shape
        draws = _rand((2, len(length), self.n_freq_masks + self.n_time_masks), generator, x.device)
        in_bins = _spans(draws[:, :, : self.n_freq_masks], min(self.freq_width, n_bins), n_bins)
        limit = (length * self.time_share).long()
        in_time = _spans(draws[:, :, self.n_freq_masks :], limit[:, None], length[:, None])
        in_freq_mask = _covered(*in_bins, n_bins).to(x.dtype)
        in_time_mask = _covered(*in_time, n_frames).to(x.dtype)
        valid = (torch.arange(n_frames, device=x.device) < length[:, None]).to(x.dtype)
        # Products and one lerp over floats: a quarter of the time that the same takes with boolean masks on a CPU.
        masked = in_freq_mask[:, :, None] * valid[:, None]
        torch.maximum(masked, in_time_mask[:, None], out=masked)
        return torch.lerp(x, self._fill_value(x, valid, length), masked)

    def _fill_value(self, x: Tensor, valid: Tensor, length: Tensor) -> Tensor:
        """(B, 1, 1)."""
        if self.fill == "zero":
            return x.new_zeros(len(x), 1, 1)
        total = (x.sum(dim=1) * valid).sum(dim=1)
        return (total / (length.clamp(min=1) * x.shape[1]))[:, None, None]

    def _warp(self, x: Tensor, length: Tensor, generator: torch.Generator) -> Tensor:
        """Frame ``anchor + shift`` shows what frame ``anchor`` showed; both ends stay where they are."""
        last = (length[:, None] - 1).float()
        draws = _rand((2, len(x), 1), generator, x.device).float()
        # An utterance too short for the whole reach is warped within a smaller one.
        reach = ((last - 2) / 2).floor().clamp(min=0.0, max=float(self.time_warp))
        choices = (last - 2 * reach - 1).clamp(min=1.0)
        anchor = (reach + 1 + (draws[0] * choices).floor()).minimum(last)
        moved = anchor + (draws[1] * (2 * reach + 1)).floor() - reach
        frame = torch.arange(x.shape[2], device=x.device, dtype=torch.float32)
        before = frame * (anchor / moved.clamp(min=1.0))
        after = anchor + (frame - moved) * ((last - anchor) / (last - moved).clamp(min=1.0))
        source = torch.where(frame < moved, before, after)
        source = torch.where(frame > last, frame, source)
        left = source.floor().long().clamp(0, x.shape[2] - 1)
        right = (left + 1).clamp(max=x.shape[2] - 1)
        weight = (source - left).to(x.dtype)[:, None, :]
        return _frames(x, left) * (1 - weight) + _frames(x, right) * weight


def _frames(x: Tensor, index: Tensor) -> Tensor:
    """Frames ``index`` (B, T) of ``x`` (B, F, T)."""
    return x.gather(2, index[:, None, :].expand_as(x))


def _rand(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    draws = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
    return draws.to(device, non_blocking=True)


def _spans(draws: Tensor, limit: int | Tensor, size: int | Tensor) -> tuple[Tensor, Tensor]:
    """Starts, and widths of 0 to ``limit``, within ``size``, from draws (2, B, M) in [0, 1): each (B, M), int64."""
    widths = (draws[0] * (limit + 1)).long()
    return (draws[1] * (size + 1 - widths)).long(), widths


def _covered(starts: Tensor, widths: Tensor, n: int) -> Tensor:
    """Which of ``n`` positions any of the masks (B, M) covers: bool, (B, n)."""
    position = torch.arange(n, device=starts.device)
    return ((position >= starts[:, :, None]) & (position < (starts + widths)[:, :, None])).any(dim=1)
