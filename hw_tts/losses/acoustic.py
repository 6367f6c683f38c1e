"""Losses of acoustic models, each a mean over valid positions."""

from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from hw_base.errors import ConfigError
from hw_base.nn.layers import length_mask
from hw_base.nn.losses import SumAndCount, masked_mean
from hw_base.registry import LOSSES
from hw_tts.models.blocks.durations import PREDICTED_KEYS, DurationDomain, duration_target

Norm = Literal["l1", "mse"]


def distance(predicted: Tensor, target: Tensor, norm: Norm) -> Tensor:
    """Absolute or squared differences, float32, of the shape of both."""
    predicted, target = predicted.float(), target.float()
    return (F.l1_loss if norm == "l1" else F.mse_loss)(predicted, target, reduction="none")


@LOSSES.register()
class SpectrogramLoss(nn.Module):
    """Distance between the predicted and the recorded log-mel spectrogram, over frames and bins.

    Args:
        norm: ``l1`` or ``mse``.
        output: which of the model's spectrograms: before or after the post-net.
    """

    def __init__(self, norm: Norm = "l1", output: Literal["predicted", "refined"] = "predicted") -> None:
        super().__init__()
        self.norm = norm
        self.output = output

    def forward(self, spectrogram: Tensor, spectrogram_length: Tensor, **batch: Any) -> SumAndCount:
        """Mean over valid frames.

        Args:
            spectrogram (Tensor): recorded, (B, F, T).
            spectrogram_length (Tensor): (B,), int64.
            batch: ``spectrogram_predicted`` or ``spectrogram_refined``, (B, F, T).

        Raises:
            ConfigError: the model does not give that spectrogram.
        """
        predicted = _output(batch, f"spectrogram_{self.output}", "SpectrogramLoss", "does the model have a postnet?")
        mask = length_mask(spectrogram_length, spectrogram.shape[-1])[:, None]
        return masked_mean(distance(predicted, spectrogram, self.norm), mask)


@LOSSES.register()
class DurationLoss(nn.Module):
    """Distance between predicted durations and those that the spectrogram was made with.

    Args:
        norm: ``l1`` or ``mse``.
        domain: the model's ``duration_domain``: ``log(d + 1)``, or frames (``linear``).
    """

    def __init__(self, norm: Norm = "mse", domain: DurationDomain = "log") -> None:
        super().__init__()
        self.norm = norm
        self.domain = domain

    def forward(self, durations: Tensor, tokens_length: Tensor, **batch: Any) -> SumAndCount:
        """Mean over tokens.

        Args:
            durations (Tensor): frames, (B, L), int64.
            tokens_length (Tensor): (B,), int64.
            batch: ``log_durations_predicted`` or ``durations_predicted``, (B, L).

        Raises:
            ConfigError: the model predicts in the other domain.
        """
        key = PREDICTED_KEYS[self.domain]
        predicted = _output(batch, key, "DurationLoss", "is its domain the model's duration_domain?")
        mask = length_mask(tokens_length, durations.shape[1])
        return masked_mean(distance(predicted, duration_target(durations, self.domain), self.norm), mask)


class _VarianceLoss(nn.Module):
    """Distance between a predicted and a recorded value of each token or frame, normalized by the model.

    Attributes:
        value: what is predicted.

    Args:
        norm: ``l1`` or ``mse``.
    """

    value: ClassVar[str]

    def __init__(self, norm: Norm = "mse") -> None:
        super().__init__()
        self.norm = norm

    def forward(self, **batch: Any) -> SumAndCount:
        """Mean over tokens or frames.

        Args:
            batch: ``<value>_predicted`` and ``<value>_target``, (B, N); ``variance_length``, (B,), int64.

        Raises:
            ConfigError: the model does not predict the value.
        """
        hint = "a FastSpeech2 predicts pitch and energy, a FastSpeech neither"
        predicted = _output(batch, f"{self.value}_predicted", type(self).__name__, hint)
        target: Tensor = batch[f"{self.value}_target"]
        mask = length_mask(batch["variance_length"], target.shape[1])
        return masked_mean(distance(predicted, target, self.norm), mask)


@LOSSES.register()
class PitchLoss(_VarianceLoss):
    """Distance between predicted and recorded pitch, normalized by the model."""

    value = "pitch"


@LOSSES.register()
class EnergyLoss(_VarianceLoss):
    """Distance between predicted and recorded energy, normalized by the model."""

    value = "energy"


def _output(batch: dict[str, Any], key: str, loss: str, hint: str) -> Tensor:
    if key not in batch:
        given = sorted(name for name in batch if name.endswith(("_predicted", "_refined")))
        raise ConfigError(f"{loss} needs {key!r}, and the model gives {given}; {hint}")
    value: Tensor = batch[key]
    return value
