"""What every synthesizer's network must have, and may have."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from hw_base.errors import ConfigError
from hw_base.nn.model import BaseModel

# A factor; in a graph that is exported it is a tensor of one number, whose value cannot be looked at.
Factor = float | Tensor


def refuse_unless_positive(name: str, value: Factor) -> None:
    """Refuse a factor that is not above 0.

    Raises:
        ConfigError: it is not; `name` says which.
    """
    if not isinstance(value, Tensor) and not value > 0:
        raise ConfigError(f"{name}: expected a factor above 0, found {value}")


class SynthesisModel(BaseModel):
    """A network that speaks symbols: `synthesize` is required, everything else has a default.

    Constructors are given at run time, if they ask for them: ``n_mels`` (F), ``n_tokens`` (symbols), ``n_speakers``,
    ``sample_rate`` in Hz, ``hop_length`` in samples. An argument ``alignment`` is where durations
    are from, if the config may choose.

    Attributes:
        trains_on_waveform: it makes audio itself: training batches hold ``waveform``, and no vocoder is needed.
        hop_length: samples of a frame; a model that makes audio itself sets it to what it was made for.
        needs_durations: training batches hold ``durations`` where the alignment is ``given``.
        default_alignment: the alignment of a config that does not say it.
        speaker_tables: names of the parameters with one row for each speaker, (N, D); ``init_from`` adds rows to them.
        uses_statistics: `set_statistics` is called before a training that resumes nothing.
    """

    required = ("synthesize",)
    trains_on_waveform: ClassVar[bool] = False
    hop_length: int = 256
    needs_durations: ClassVar[bool] = False
    default_alignment: ClassVar[str] = "given"
    speaker_tables: ClassVar[tuple[str, ...]] = ()
    uses_statistics: ClassVar[bool] = False

    def synthesize(
        self,
        tokens: Tensor,
        tokens_length: Tensor,
        speaker_id: Tensor | None = None,
        speed: Factor = 1.0,
        pitch: Factor = 1.0,
        energy: Factor = 1.0,
    ) -> dict[str, Tensor]:
        """Speak; called in evaluation mode. A model may name further controls as keywords, with defaults.

        Args:
            tokens (Tensor): symbols, 0 is padding, (B, L), int64.
            tokens_length (Tensor): (B,), int64.
            speaker_id (Tensor): (B,), int64; None is the first.
            speed: by which durations are divided.
            pitch: by which F0 in Hz is multiplied; a model without the control refuses all but 1.
            energy: by which the energy is multiplied; as above.

        Returns:
            dict: ``spectrogram`` (B, F, T) and ``spectrogram_length`` (B,), or of models that make audio themselves
            ``waveform`` (B, S) and ``waveform_length`` (B,); if it is known, ``durations`` (B, L), frames, int64.
        """
        raise NotImplementedError

    def exported_controls(self) -> dict[str, Tensor]:
        """What an exported graph of `synthesize` takes besides tokens and speaker: keyword -> an example.

        A factor has no axes; of values by the frame or the token, the last axis has any size.
        """
        return {"speed": torch.tensor(1.0)}

    def set_statistics(self, statistics: Mapping[str, float]) -> None:
        """Take what `hw_tts.features.statistics.collect` measured on the training split, where `uses_statistics`."""

    def set_step(self, step: int, steps_before: int = 0) -> None:
        """Told before each training pass.

        Args:
            step: of this training.
            steps_before: for which the weights it began with had been trained.
        """

    def prepare_for_inference(self, dtype: torch.dtype = torch.float32) -> "SynthesisModel":
        """Make it as quick as it can be; training ends. Returns the model itself."""
        return self

    def mix_speakers(self, weights: dict[int, float]) -> Tensor:
        """A voice between known ones, for the control ``speaker_embedding``: speaker id -> weight; (1, D).

        Raises:
            ConfigError: this model cannot.
        """
        raise ConfigError(f"{type(self).__name__} cannot mix speakers")

    def voice_conversion(
        self,
        spectrogram: Tensor,
        spectrogram_length: Tensor,
        source_id: Tensor,
        target_id: Tensor | None = None,
        noise: float = 1.0,
        target_embedding: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Say a recording with another voice.

        Args:
            spectrogram (Tensor): (B, F, T).
            spectrogram_length (Tensor): (B,), int64.
            source_id (Tensor): who speaks, (B,), int64.
            target_id (Tensor): who shall speak, (B,), int64.
            noise: standard deviation of the latent, as a fraction of the posterior's.
            target_embedding (Tensor): (B, G), or (1, G) of `mix_speakers`, instead of ``target_id``.

        Returns:
            dict: ``waveform`` (B, S), ``waveform_length`` (B,).

        Raises:
            ConfigError: this model cannot, or does not know a speaker.
        """
        raise ConfigError(f"{type(self).__name__} cannot convert voices; a VITS2 can")
