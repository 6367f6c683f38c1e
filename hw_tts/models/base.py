"""What every synthesizer's network must have, and may have."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from hw_base.errors import ConfigError
from hw_base.nn.model import BaseModel


class SynthesisModel(BaseModel):
    """A network that speaks symbols: `synthesize` is required, everything else has a default.

    Constructors are given at run time, if they ask for them: ``n_mels`` (F), ``n_tokens`` (symbols), ``n_speakers``,
    ``sample_rate`` in Hz, ``hop_length`` in samples. An argument ``alignment`` is where durations
    are from, if the config may choose.

    Attributes:
        trains_on_waveform: it makes audio itself: training batches hold ``waveform``, and no vocoder is needed.
        needs_durations: training batches hold ``durations`` where the alignment is ``given``.
        default_alignment: the alignment of a config that does not say it.
        speaker_tables: names of the parameters with one row for each speaker, (N, D); ``init_from`` adds rows to them.
        uses_statistics: `set_statistics` is called before a training that resumes nothing.
    """

    required = ("synthesize",)
    trains_on_waveform: ClassVar[bool] = False
    needs_durations: ClassVar[bool] = False
    default_alignment: ClassVar[str] = "given"
    speaker_tables: ClassVar[tuple[str, ...]] = ()
    uses_statistics: ClassVar[bool] = False

    def synthesize(
        self,
        tokens: Tensor,
        tokens_length: Tensor,
        speaker_id: Tensor | None = None,
        speed: float = 1.0,
        pitch: float = 1.0,
        energy: float = 1.0,
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
