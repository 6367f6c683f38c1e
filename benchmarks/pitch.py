"""YIN against DIO and Harvest on real speech, on one thread: ``python -m benchmarks.pitch DATA [--clips 6]``.

The processor time that each tracker takes for a second of speech (the least of several repeats, all trackers in turn),
and how often two of them differ by more than 20 % on frames that both call voiced. DATA holds ``LJSpeech-1.1``,
``LibriSpeech`` and ``VCTK-Corpus-0.92``, or some of them; clips are taken from each, evenly spaced.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import measuring
from hw_base.audio import io as audio
from hw_tts.features.pitch import PitchMethod, track

RATE, HOP = 22050, 256
METHODS: tuple[PitchMethod, ...] = ("dio", "harvest", "yin")
CORPORA = {"LJSpeech": "LJSpeech-1.1/**/*.wav", "LibriSpeech": "LibriSpeech/t*/**/*.flac", "VCTK": "VCTK*/**/*.flac"}


def clips(folder: Path, pattern: str, count: int) -> list[Tensor]:
    paths = sorted(folder.glob(pattern))
    return [audio.load(path, RATE)[0] for path in paths[:: max(1, len(paths) // count)][:count]]


def measure(waveform: Tensor, seconds: dict[str, float], repeats: int) -> dict[str, Tensor]:
    """Pitch by each method; the least times are added to ``seconds``."""
    found: dict[str, Tensor] = {}

    def work(method: PitchMethod) -> None:
        found[method] = track(waveform, RATE, HOP, len(waveform) // HOP + 1, method)

    sides = {method: lambda method=method: work(method) for method in METHODS}
    best = measuring.compare(sides, repeats, warm_up=False)
    for method in METHODS:
        seconds[method] += best[method]
    return found


def far(a: Tensor, b: Tensor) -> Tensor:
    return (a / b.clamp(min=1.0) - 1.0).abs() > 0.2


def compared(a: Tensor, b: Tensor, among: Tensor | None = None) -> str:
    """Share of gross differences, and of `b`'s voiced frames that `a` calls voiced too."""
    both = (a > 0) & (b > 0) & (torch.ones_like(a) > 0 if among is None else among)
    fine = (a / b.clamp(min=1.0) - 1.0).abs()[both & ~far(a, b)]
    shares = (far(a, b)[both].float().mean(), fine.median(), both.sum() / (b > 0).sum())
    return " | ".join(f"{100 * float(share):.2f} %" for share in shares)


def main(argv: Sequence[str] | None = None) -> int:
    parser = measuring.parser(__doc__, repeats=2)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of the corpora")
    parser.add_argument("--clips", type=int, default=6, help="of each corpus (default: 6)")
    arguments = parser.parse_args(argv)
    found = {corpus: clips(arguments.data, pattern, arguments.clips) for corpus, pattern in CORPORA.items()}
    found = {corpus: waveforms for corpus, waveforms in found.items() if waveforms}
    if not found:
        print(f"error: {arguments.data}: has no recordings of {', '.join(CORPORA)}", file=sys.stderr)
        return 2
    run(found, arguments)
    return 0


def run(found: dict[str, list[Tensor]], arguments: argparse.Namespace) -> None:
    """Track the pitch of all clips; print how far the trackers agree, and write how long they take."""
    seconds = dict.fromkeys(METHODS, 0.0)
    tracks = {
        corpus: [measure(waveform, seconds, arguments.repeats) for waveform in waveforms]
        for corpus, waveforms in found.items()
    }
    tracks["all"] = [one for several in list(tracks.values()) for one in several]
    print("| corpus | pair | gross differences | median of the others | both voiced |\n|---|---|---|---|---|")
    for corpus, several in tracks.items():
        dio, harvest, ours = (torch.cat([one[method] for one in several]) for method in METHODS)
        agreed = (harvest > 0) & (dio > 0) & ~far(harvest, dio)
        print(f"| {corpus} | yin, dio | {compared(ours, dio)} |")
        print(f"| {corpus} | harvest, dio | {compared(harvest, dio)} |")
        print(f"| {corpus} | yin, where harvest and dio agree | {compared(ours, dio, agreed)} |")
    length = sum(len(waveform) for waveforms in found.values() for waveform in waveforms) / RATE
    rows = [
        measuring.against(
            f"pitch of a second of speech by YIN, {length:.0f} s of {', '.join(found)}",
            peer,
            "process time",
            seconds[peer] / length,
            seconds["yin"] / length,
        )
        for peer in ("dio", "harvest")
    ]
    measuring.write(rows, "pitch", arguments.output)


if __name__ == "__main__":
    sys.exit(main())
