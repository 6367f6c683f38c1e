"""Mel spectrograms to audio without training: our GriffinLim against torchaudio's transforms and librosa's function.

    python -m benchmarks.griffin_lim [--repeats 3]

Process time of one thread, the sides in turn, the least of the repeats; sentences of the embedded corpus at
22,050 Hz, each by itself, 32 iterations with momentum 0.99 on all sides. The error is the mean distance between the
log-mel spectrogram that was given and that of the audio.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import measuring
from hw_base.synthetic.corpus import SyntheticSpeech
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.vocoders.loading import GriffinLim

N_SENTENCES = 4
ITERATIONS = 32


def main() -> None:
    arguments = measuring.parser(__doc__, repeats=3).parse_args()
    features = TTSFeatures()
    data = SyntheticSpeech(part="val", n_utterances=N_SENTENCES, sample_rate=22050)
    waveforms = [data.read(record)[0] for record in data.records]
    spectrograms = [features(waveform) for waveform in waveforms]
    audio = sum(map(len, waveforms)) / features.sample_rate
    vocoders = {"ours": ours(features), "torchaudio": torchaudio_side(features), "librosa": librosa_side(features)}
    made: dict[str, list[Tensor]] = {}

    def work(name: str) -> Callable[[], None]:
        return lambda: made.update({name: [vocoders[name](spectrogram) for spectrogram in spectrograms]})

    seconds = measuring.compare({name: work(name) for name in vocoders}, arguments.repeats)
    errors = {name: error(features, spectrograms, made[name]) for name in vocoders}
    rows = [
        measuring.against(
            f"Griffin-Lim, {ITERATIONS} iterations, a second of audio",
            peer,
            "process time",
            seconds[peer] / audio,
            seconds["ours"] / audio,
            f"log-mel errors {errors[peer]:.3f} : {errors['ours']:.3f}",
        )
        for peer in ("torchaudio", "librosa")
    ]
    measuring.write(rows, "griffin_lim", arguments.output)


def error(features: TTSFeatures, spectrograms: list[Tensor], made: list[Tensor]) -> float:
    """Mean over sentences of the mean log-mel distance."""
    distances = []
    for spectrogram, waveform in zip(spectrograms, made, strict=True):
        again = features(waveform)
        n_frames = min(again.shape[1], spectrogram.shape[1])
        distances.append((again[:, :n_frames] - spectrogram[:, :n_frames]).abs().mean())
    return float(torch.stack(distances).mean())


def ours(features: TTSFeatures) -> Callable[[Tensor], Tensor]:
    vocoder = GriffinLim(features, n_iterations=ITERATIONS)
    return lambda spectrogram: vocoder(spectrogram.unsqueeze(0))[0]


def torchaudio_side(features: TTSFeatures) -> Callable[[Tensor], Tensor]:
    from torchaudio import transforms

    inverse = transforms.InverseMelScale(
        n_stft=features.n_fft // 2 + 1,
        n_mels=features.n_mels,
        sample_rate=features.sample_rate,
        f_max=features.f_max,
        norm=features.norm,
        mel_scale=features.mel_scale,
        driver="gelsd",  # the default driver refuses filters without full rank
    )
    phases = transforms.GriffinLim(n_fft=features.n_fft, hop_length=features.hop_length, power=1, n_iter=ITERATIONS)
    return lambda spectrogram: phases(inverse(spectrogram.exp()))


def librosa_side(features: TTSFeatures) -> Callable[[Tensor], Tensor]:
    import librosa

    def voice(spectrogram: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # As `mel_to_audio` does it, with a seed.
            magnitudes = librosa.feature.inverse.mel_to_stft(
                spectrogram.exp().numpy(),
                sr=features.sample_rate,
                n_fft=features.n_fft,
                power=1.0,
                fmax=features.f_max,
            )
            waveform = librosa.griffinlim(
                magnitudes, n_iter=ITERATIONS, hop_length=features.hop_length, n_fft=features.n_fft, random_state=0
            )
        return torch.from_numpy(waveform)

    return voice


if __name__ == "__main__":
    main()
