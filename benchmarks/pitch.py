"""YIN against DIO and Harvest on real speech, on one thread: ``python -m benchmarks.pitch [DATA_FOLDER] [CLIPS]``.

Prints the processor seconds that each tracker takes for a second of speech (the least of several repeats, all trackers
in turn), and how often two of them differ by more than 20 % on frames that both call voiced. The folder holds
``LJSpeech-1.1``, ``LibriSpeech`` and ``VCTK-Corpus-0.92``; CLIPS are taken from each, evenly spaced.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from hw_base.audio import io as audio
from hw_tts.features.pitch import PitchMethod, track

RATE, HOP = 22050, 256
METHODS: tuple[PitchMethod, ...] = ("dio", "harvest", "yin")
CORPORA = {"LJSpeech": "LJSpeech-1.1/**/*.wav", "LibriSpeech": "LibriSpeech/t*/**/*.flac", "VCTK": "VCTK*/**/*.flac"}
REPEATS = 2


def clips(folder: Path, pattern: str, count: int) -> list[Tensor]:
    paths = sorted(folder.glob(pattern))
    return [audio.load(path, RATE)[0] for path in paths[:: max(1, len(paths) // count)][:count]]


def measure(waveform: Tensor, seconds: dict[str, float]) -> dict[str, Tensor]:
    """Pitch by each method; the least times are added to ``seconds``."""
    best = dict.fromkeys(METHODS, float("inf"))
    found = {}
    for _ in range(REPEATS):
        for method in METHODS:
            start = time.process_time()
            found[method] = track(waveform, RATE, HOP, len(waveform) // HOP + 1, method)
            best[method] = min(best[method], time.process_time() - start)
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


def main(arguments: Sequence[str]) -> None:
    torch.set_num_threads(1)
    folder = Path(arguments[0] if arguments else "../shared/data")
    count = int(arguments[1]) if len(arguments) > 1 else 6
    seconds, length = dict.fromkeys(METHODS, 0.0), 0
    everything: dict[str, list[Tensor]] = {method: [] for method in METHODS}
    rows = []
    for corpus, pattern in CORPORA.items():
        tracks: dict[str, list[Tensor]] = {method: [] for method in METHODS}
        for waveform in clips(folder, pattern, count):
            length += len(waveform)
            for method, found in measure(waveform, seconds).items():
                tracks[method].append(found)
                everything[method].append(found)
        rows.append((corpus, {method: torch.cat(parts) for method, parts in tracks.items() if parts}))
    rows.append(("all", {method: torch.cat(parts) for method, parts in everything.items()}))
    print(f"{length / RATE:.0f} s of speech\n\n| tracker | s a second | against dio |\n|---|---|---|")
    for method in METHODS:
        print(f"| {method} | {seconds[method] * RATE / length:.5f} | {seconds['dio'] / seconds[method]:.2f}x |")
    print("\n| corpus | pair | gross differences | median of the others | both voiced |\n|---|---|---|---|---|")
    for corpus, found in rows:
        dio, harvest, ours = (found[method] for method in METHODS)
        agreed = (harvest > 0) & (dio > 0) & ~far(harvest, dio)
        print(f"| {corpus} | yin, dio | {compared(ours, dio)} |")
        print(f"| {corpus} | harvest, dio | {compared(harvest, dio)} |")
        print(f"| {corpus} | yin, where harvest and dio agree | {compared(ours, dio, agreed)} |")


if __name__ == "__main__":
    main(sys.argv[1:])
