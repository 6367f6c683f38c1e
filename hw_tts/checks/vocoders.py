"""What every vocoder keeps to."""

import inspect
from typing import Any

import torch
from torch import Tensor

from hw_base.checks import Candidate, Contract, Outcome, declare, expect, expect_close, samples
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.models.hifigan.generator import Generator, GeneratorSizes
from hw_tts.vocoders.base import BaseVocoder
from hw_tts.vocoders.griffin_lim import GriffinLim
from hw_tts.vocoders.hifigan import HiFiGANVocoder

_SIZES = GeneratorSizes((8, 4, 4), (16, 8, 8), 16, "2", (3,), ((1, 3),))  # of a HiFi-GAN

VOCODER: Contract[Candidate] = Contract("vocoder")


def check_vocoder(candidate: Candidate) -> list[Outcome]:
    """All properties of a vocoder that is built with ``features``."""
    return VOCODER.check(candidate)


def _features() -> TTSFeatures:
    return TTSFeatures(sample_rate=16000, n_fft=512, win_length=512, hop_length=128, n_mels=40)


def _vocoder(candidate: Candidate) -> Any:
    features = _features()
    made = candidate.target(**candidate.args, **_known(candidate, features=features, constants=features.constants()))
    return made.eval()


def _known(candidate: Candidate, **runtime: Any) -> dict[str, Any]:
    parameters = inspect.signature(candidate.target).parameters
    return {key: value for key, value in runtime.items() if key in parameters}


def _spectrogram(n_frames: int, seed: int = 0) -> Tensor:
    features = _features()
    spectrogram: Tensor = features(samples.waveform(n_frames * features.hop_length, 16000, seed))
    return spectrogram[None, :, :n_frames]


@VOCODER.property("the transposed convolutions' padding, or the centered transform, adds or loses samples")
def every_frame_gives_hop_length_samples(candidate: Candidate) -> None:
    vocoder = _vocoder(candidate)
    for n_frames in (5, 8, 31):
        waveform = vocoder(_spectrogram(n_frames))
        shape = (1, n_frames * vocoder.hop_length)
        expect(tuple(waveform.shape) == shape, f"shape {shape} of {n_frames} frames", tuple(waveform.shape))
        expect(waveform.dtype == torch.float32, "float32", waveform.dtype)


@VOCODER.property("lengths are not looked at, so that padding is audible or reaches the utterance's end")
def what_follows_an_utterance_is_silent(candidate: Candidate) -> None:
    vocoder = _vocoder(candidate)
    length = torch.tensor([20, 7])
    padded = torch.cat([_spectrogram(20), _spectrogram(20, 1)])
    waveform = vocoder(padded, length)
    expect(waveform.shape[1] == 20 * vocoder.hop_length, f"{20 * vocoder.hop_length} samples", waveform.shape[1])
    expect(not waveform[1, 7 * vocoder.hop_length :].any(), "zeros after the second utterance", "sound")


@VOCODER.property("something is normalized over the batch")
def an_utterance_alone_equals_itself_in_a_padded_batch(candidate: Candidate) -> None:
    vocoder = _vocoder(candidate)
    first, second = _spectrogram(24), _spectrogram(24, 1)
    second[..., 12:] = 3.0
    together = vocoder(torch.cat([first, second]), torch.tensor([24, 12]))
    alone = vocoder(second[..., :12], torch.tensor([12]))
    inner = 8 * vocoder.hop_length
    expect_close(together[1, :inner], alone[0, :inner], "the beginning of the second utterance", 0.05)


@VOCODER.property("a random phase at each call, or dropout in evaluation")
def the_same_spectrogram_gives_the_same_waveform(candidate: Candidate) -> None:
    vocoder = _vocoder(candidate)
    x = _spectrogram(16)
    expect(torch.equal(vocoder(x), vocoder(x)), "equal waveforms at the second call", "others")


@VOCODER.property("an exponential of an unbounded value")
def waveforms_are_finite(candidate: Candidate) -> None:
    vocoder = _vocoder(candidate)
    for name, x in {"speech": _spectrogram(16), "silence": torch.full((1, 40, 16), -11.5)}.items():
        expect(torch.isfinite(vocoder(x)).all(), f"a finite waveform of {name}", "NaN or infinity")


def _hifigan(constants: dict[str, Any]) -> HiFiGANVocoder:
    """Small, with random weights."""
    return HiFiGANVocoder(Generator(constants["n_mels"], _SIZES), constants)


declare(
    "vocoders",
    check_vocoder,
    BaseVocoder,
    parts={"GriffinLim": (GriffinLim, {}), "HiFiGANVocoder": (_hifigan, {})},
)
