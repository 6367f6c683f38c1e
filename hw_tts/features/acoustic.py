"""What a synthesizer is trained to say: log-mel spectrogram, pitch and energy, frame by frame."""

from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor

from hw_base.audio.mel import LogMelSpectrogram, MelScale
from hw_base.config.schema import SampleRate, Size
from hw_base.errors import ConfigError, DataError
from hw_base.registry import FEATURES
from hw_tts.features import pitch as pitch_tracking
from hw_tts.features.pitch import PitchMethod

# What public HiFi-GAN and VITS programs have no key for: they all make their spectrograms so.
PUBLIC_SPECTROGRAM = {
    "power": 1,
    "mel_scale": "slaney",
    "norm": "slaney",
    "eps": 1e-5,
    "padding": "same",
    "normalize": "none",
    "power_offset": 0.0,
}
# VITS programs add this to the power spectrum; HiFi-GAN's add 1e-9, which is far below `eps`.
VITS_SPECTROGRAM = {**PUBLIC_SPECTROGRAM, "power_offset": 1e-6}


@FEATURES.register()
class TTSFeatures(LogMelSpectrogram):
    """The log-mel spectrogram of synthesis, and F0 and energy on the same frames.

    The defaults are the constants that public vocoders of 22,050 Hz speech share, so that a spectrogram made here
    can be voiced by them. Each method gives exactly the frames of the spectrogram.

    Args:
        sample_rate: of the waveforms, in Hz.
        n_fft: length of the DFT, in samples.
        win_length: of the periodic Hann window, in samples.
        hop_length: in samples.
        n_mels: F.
        f_min: in Hz.
        f_max: in Hz; None is half the sample rate.
        power: 2 takes the power spectrum, 1 the magnitude.
        mel_scale: ``htk`` or ``slaney``.
        norm: ``slaney`` gives filters of equal area, None of equal height.
        eps: smallest mel value before the logarithm.
        padding: as in `LogMelSpectrogram`.
        normalize: as in `LogMelSpectrogram`.
        pitch: the tracker, see `hw_tts.features.pitch.track`.
        pitch_floor: lowest F0 looked for, in Hz.
        pitch_ceiling: highest F0 looked for, in Hz.
        power_offset: as in `LogMelSpectrogram`; 1e-6 for weights of public VITS programs.

    Raises:
        ConfigError: arguments that contradict each other.
    """

    def __init__(
        self,
        sample_rate: SampleRate = 22050,
        n_fft: Size = 1024,
        win_length: Size = 1024,
        hop_length: Size = 256,
        n_mels: Size = 80,
        f_min: NonNegativeFloat = 0.0,
        f_max: PositiveFloat | None = 8000.0,
        power: Annotated[int, Field(ge=1, le=2)] = 1,
        mel_scale: MelScale = "slaney",
        norm: Literal["slaney"] | None = "slaney",
        eps: PositiveFloat = 1e-5,
        padding: Literal["center", "same", "none"] = "center",
        normalize: Literal["none", "utterance", "per_bin"] = "none",
        pitch: PitchMethod = "dio",
        pitch_floor: PositiveFloat = 71.0,
        pitch_ceiling: PositiveFloat = 800.0,
        power_offset: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__(
            sample_rate=sample_rate,
            n_fft=n_fft,
            win_length=win_length,
            hop_length=hop_length,
            n_mels=n_mels,
            f_min=f_min,
            f_max=f_max,
            power=power,
            mel_scale=mel_scale,
            norm=norm,
            eps=eps,
            padding=padding,
            normalize=normalize,
            power_offset=power_offset,
        )
        if not pitch_floor < pitch_ceiling < sample_rate / 4:
            raise ConfigError(
                f"features: expected pitch_floor < pitch_ceiling < a quarter of the sample rate ({sample_rate / 4:g} "
                f"Hz), found {pitch_floor:g} and {pitch_ceiling:g} Hz"
            )
        self.pitch, self.pitch_floor, self.pitch_ceiling = pitch, pitch_floor, pitch_ceiling

    def mel(self, waveform: Tensor, waveform_length: Tensor | None = None) -> Tensor:
        """The log-mel spectrogram, (F, T) or (B, F, T): calling the object does the same."""
        spectrogram: Tensor = self(waveform, waveform_length)
        return spectrogram

    def pitch_of(self, waveform: Tensor) -> Tensor:
        """F0 in Hz, by straight lines over unvoiced stretches: (S,) -> (T,), float32; zeros if nothing is voiced."""
        return pitch_tracking.interpolated(self._track(waveform))

    def voiced_of(self, waveform: Tensor) -> Tensor:
        """Which frames have a pitch of their own: (S,) -> (T,), bool."""
        return self._track(waveform) > 0

    def energy_of(self, waveform: Tensor) -> Tensor:
        """L2 norm of the STFT's magnitudes: (S,) -> (T,), float32."""
        return self._power_of(waveform).sum(dim=0).sqrt()

    def all_of(self, waveform: Tensor) -> dict[str, Tensor]:
        """Everything of one utterance, from one STFT and one run of the pitch tracker.

        Args:
            waveform: (S,).

        Returns:
            dict: ``spectrogram`` (F, T), ``pitch`` (T,) in Hz without gaps, ``energy`` (T,), all float32, and
            ``voiced`` (T,), bool.

        Raises:
            DataError: the waveform is too short for one frame.
        """
        power = self._power_of(waveform)
        track = self._track(waveform)
        return {
            "spectrogram": self._normalized(self._log_mel(power.unsqueeze(0)), None).squeeze(0),
            "pitch": pitch_tracking.interpolated(track),
            "energy": power.sum(dim=0).sqrt(),
            "voiced": track > 0,
        }

    def _power_of(self, waveform: Tensor) -> Tensor:
        """(S,) -> (n_fft // 2 + 1, T)."""
        self._refuse_too_short(waveform)
        with torch.autocast(waveform.device.type, enabled=False):
            return self._power_spectrum(self._padded(waveform.float().unsqueeze(0), None)).squeeze(0)

    def _power_spectrum(self, padded: Tensor) -> Tensor:
        # In single precision the rounding of a frame's strong bins drowns its weak ones: errors of up to 2e-3 in the
        # logarithm. Accelerators are slow in double precision or have none.
        if padded.device.type != "cpu":
            return super()._power_spectrum(padded)
        window = torch.hann_window(self.win_length, dtype=torch.float64)
        spectrum = torch.stft(
            padded.double(), self.n_fft, self.hop_length, self.win_length, window, center=False, return_complex=True
        )
        return (spectrum.real.square() + spectrum.imag.square()).float()

    def _track(self, waveform: Tensor) -> Tensor:
        self._refuse_too_short(waveform)
        return pitch_tracking.track(
            waveform,
            self.sample_rate,
            self.hop_length,
            self.frames(len(waveform)),
            self.pitch,
            self.pitch_floor,
            self.pitch_ceiling,
            first=self.n_fft // 2 - self._left,
        )

    def _refuse_too_short(self, waveform: Tensor) -> None:
        if len(waveform) < self.min_samples:
            raise DataError(f"features: a waveform of {len(waveform)} samples; at least {self.min_samples} are needed")
