# PYTHON_ARGCOMPLETE_OK
"""Resynthesize a folder of recordings: ``python -m hw_tts.resynthesize -r CKPT --resynthesize DIR -o OUT``."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from hw_base import distributed
from hw_base.audio import io as audio
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.errors import ConfigError, DataError
from hw_base.runs import cli
from hw_base.runs.parser import Parser
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.vocoders.loading import BaseVocoder, GriffinLim, open_vocoder


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = Parser(
        "python -m hw_tts.resynthesize",
        "Turn recordings into mel spectrograms and back, to listen to a vocoder.",
        ["-r vocoder.pth --resynthesize DIR -o resynthesized"],
    )
    parser.add_argument(
        "-r", "--resume", metavar="CKPT", help="of a HiFiGAN, this project's or public (default: Griffin-Lim)"
    )
    parser.add_argument("--resynthesize", metavar="DIR", required=True, help="folder of recordings, searched through")
    parser.add_argument("-d", "--device", default="auto", help=distributed.DEVICES)
    parser.add_argument("-o", "--output", metavar="OUT", required=True, help="folder for as many .wav files")
    cli.add_import(parser)
    arguments = parser.parse_args(argv)
    return cli.run(lambda: _work(arguments), arguments.imports)


def _work(arguments: argparse.Namespace) -> int:
    source, target = Path(arguments.resynthesize), Path(arguments.output)
    paths = recordings(source)
    if source.resolve() == target.resolve():
        raise ConfigError(f"--output {target}: the recordings lie there; give another folder")
    device = distributed.start(arguments.device)
    vocoder: BaseVocoder = GriffinLim(TTSFeatures()) if arguments.resume is None else open_vocoder(arguments.resume)
    vocoder.to(device)
    features = LogMelSpectrogram(**vocoder.constants)
    started, seconds = time.perf_counter(), 0.0
    for path in paths:
        waveform, rate = audio.load(path, vocoder.sample_rate)
        if not len(waveform) or not bool(torch.isfinite(waveform).all()):
            raise DataError(f"{path}: no samples, or samples that are NaN or infinite")
        written = target / path.relative_to(source).with_suffix(".wav")
        audio.save(written, resynthesize(vocoder, features, waveform), rate)
        seconds += len(waveform) / rate
        print(f"{path} -> {written}: {len(waveform) / rate:.2f} s")
    factor = (time.perf_counter() - started) / seconds
    print(f"{len(paths)} recordings, {seconds:.1f} s, real-time factor {factor:.3f}")
    return 0


def recordings(folder: Path) -> list[Path]:
    """The audio files of a folder and the folders in it, sorted.

    Raises:
        ConfigError: there is no such folder, no audio in it, or two files would be written to one.
    """
    if not folder.is_dir():
        raise ConfigError(f"--resynthesize {folder}: no such folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in audio.EXTENSIONS and path.is_file())
    if not paths:
        raise ConfigError(f"--resynthesize {folder}: no audio in it ({', '.join(audio.EXTENSIONS)})")
    seen: dict[Path, Path] = {}
    for path in paths:
        other = seen.setdefault(path.with_suffix(""), path)
        if other is not path:
            raise ConfigError(f"--resynthesize {folder}: {other.name} and {path.name} would both become a .wav file")
    return paths


@torch.inference_mode()
def resynthesize(vocoder: BaseVocoder, features: LogMelSpectrogram, waveform: Tensor) -> Tensor:
    """A recording to its spectrogram and back.

    Args:
        vocoder: on any device.
        features: with the vocoder's constants, on the CPU.
        waveform (Tensor): (S,), at the vocoder's rate; what is too short for a frame is padded with silence.

    Returns:
        Tensor: (S,), on the CPU, in [-1, 1].
    """
    # The last frames may end before the recording does, by less than a hop.
    needed = max(len(waveform) + features.hop_length, features.min_samples)
    spectrogram = features(F.pad(waveform, (0, needed - len(waveform))))
    device = next(iter([*vocoder.parameters(), *vocoder.buffers()])).device
    vocoded: Tensor = vocoder(spectrogram.unsqueeze(0).to(device)).squeeze(0)
    return vocoded[: len(waveform)].clamp(-1.0, 1.0).cpu()


if __name__ == "__main__":
    sys.exit(main())
