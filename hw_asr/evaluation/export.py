"""A recognizer as a graph: a waveform in, log-probabilities of the tokens and their lengths out."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_asr.decoders.scoring.tokens import SPACE, describe_tokens
from hw_asr.models.base import CTCModel
from hw_asr.models.transducer import Transducer
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.errors import ConfigError
from hw_base.exports.contract import Graph, TaskExport, Tensors
from hw_base.nn.layers import length_mask
from hw_base.recognizer import Recognizer
from hw_base.trained import Trained

INPUTS = ("waveform", "waveform_length")
OUTPUTS = ("log_probs", "log_probs_length")


class ConvolvedLogMel(LogMelSpectrogram):
    """The same spectrogram, whose Fourier transform is one convolution; for graphs.

    The arguments are those of `LogMelSpectrogram`. What is too short for a frame is not refused.
    """

    basis: Tensor

    def __init__(self, **constants: object) -> None:
        super().__init__(**constants)  # type: ignore[arg-type]
        left = (self.n_fft - self.win_length) // 2
        window = F.pad(self.window.double(), (left, self.n_fft - self.win_length - left))
        spectrum = torch.fft.rfft(torch.diag(window)).T  # of each sample alone: (n_fft // 2 + 1, n_fft)
        self.register_buffer("basis", torch.cat([spectrum.real, spectrum.imag]).float()[:, None], persistent=False)

    def forward(self, waveform: Tensor, waveform_length: Tensor | None = None) -> Tensor:
        """``waveform`` (B, S), ``waveform_length`` (B,) -> (B, F, T)."""
        assert waveform_length is not None
        energy = self._power_spectrum(self._padded(waveform, waveform_length))
        log_mel = self._log_mel(energy)
        return self._normalized(log_mel, self._mask(log_mel, waveform_length))

    def _power_spectrum(self, padded: Tensor) -> Tensor:
        real, imaginary = F.conv1d(padded[:, None], self.basis, stride=self.hop_length).square().chunk(2, dim=1)
        return real + imaginary


class Recognized(nn.Module):
    """Features and model in one: ``waveform`` (B, S), ``waveform_length`` (B,) -> posteriors, 0 in the padding."""

    def __init__(self, features: LogMelSpectrogram, model: CTCModel) -> None:
        super().__init__()
        self.features, self.model = ConvolvedLogMel(**features.constants()), model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """In the order of `INPUTS` and `OUTPUTS`."""
        waveform, length = inputs
        spectrogram = self.features(waveform, length)
        output = self.model(spectrogram=spectrogram, spectrogram_length=self.features.frames(length))
        return _valid(output["log_probs"], output["log_probs_length"]), output["log_probs_length"]


class ASRExport(TaskExport):
    """See `TaskExport`."""

    def graph(self, opened: Trained, vocoder: Path | None) -> Graph:
        model, features = opened.model, opened.task.features
        assert isinstance(model, CTCModel)
        if isinstance(model, Transducer):
            raise ConfigError(
                f"{opened.path}: a Transducer has no graph: each token that it emits changes what it expects"
            )
        if vocoder is not None:
            raise ConfigError(f"--vocoder: {opened.path} holds a recognizer, which needs none")
        if type(features) is not LogMelSpectrogram:
            raise ConfigError(f"{opened.path}: features of the type {type(features).__name__} have no graph")
        recognizer = opened.task.recognizer(model, opened.device)
        return Graph(
            network=Recognized(features, model),
            axes={"waveform": {0: "batch", 1: "samples"}, "waveform_length": {0: "batch"}},
            outputs=OUTPUTS,
            cases=_cases(features),
            expected=lambda case: _expected(recognizer, features.sample_rate, case),
            metadata={
                "task": "asr",
                "model": opened.config.model.type,
                "sample_rate": features.sample_rate,
                "min_samples": features.min_samples,
                "frame_seconds": recognizer.frame_seconds,
                "blank": 0,
                "vocabulary": describe_tokens(opened.task.text_encoder).names,
                "space": SPACE,
            },
            float_parts=("features.",),
        )


EXPORT = ASRExport()


def _cases(features: LogMelSpectrogram) -> Sequence[Tensors]:
    """Noise of many lengths, alone and in batches whose padding is not silent; at changing levels, as speech is."""
    rate, generator = features.sample_rate, torch.Generator().manual_seed(0)
    batches = [(1.0, 0.63), (0.5,), (2.31, 1.7, 0.2), (7.05,), (0.11, 0.1, 0.12, 0.3), (3.0, 3.0), (17.3, 4.2)]
    cases = []
    for seconds in batches:
        length = torch.tensor([max(features.min_samples, round(s * rate)) for s in seconds])
        waveform = torch.randn(len(seconds), int(length.max()), generator=generator) * 0.05
        level = 1.0 + torch.sin(torch.arange(waveform.shape[1]) * (2 * torch.pi * 3 / rate))
        cases.append({"waveform": (waveform * level).clamp(-1, 1), "waveform_length": length})
    return cases


def _expected(recognizer: Recognizer, sample_rate: int, case: Tensors) -> Tensors:
    rows = [row[:length] for row, length in zip(case["waveform"], case["waveform_length"].tolist(), strict=True)]
    log_probs, frames = recognizer.posteriors(rows, sample_rate)
    return dict(zip(OUTPUTS, (_valid(log_probs, frames), frames), strict=True))


def _valid(log_probs: Tensor, length: Tensor) -> Tensor:
    """(B, T, V), 0 in the padding."""
    return log_probs.masked_fill(~length_mask(length, log_probs.shape[1])[..., None], 0.0)
