"""CPU seconds for distortion, pitch and voicing of a pair of 3 s: ours, and the package pymcd where it is installed.

    python -m benchmarks.metrics_of_synthesis [--repeats 5]

Ours gives three figures of one analysis, by exact warping; pymcd gives the first of them, by an approximate one, and
reads its two recordings from files, which takes it a few milliseconds.
"""

import tempfile
from pathlib import Path

import torch

from benchmarks import measuring
from hw_base.audio import io as audio
from hw_tts.metrics.base import Pair
from hw_tts.metrics.cepstral import MCD
from hw_tts.metrics.prosody import LogF0RMSE, VoicingError

RATE, SECONDS = 22050, 3


def voices():
    """Two vowels with gliding pitch and some noise."""
    t = torch.arange(SECONDS * RATE) / RATE
    noise = 0.01 * torch.randn(2, len(t), generator=torch.Generator().manual_seed(0))
    waves = []
    for i, f0 in enumerate((140.0, 170.0)):
        phase = 2 * torch.pi * f0 * (t + 0.05 * torch.sin(3 * t))
        waves.append(0.2 * sum(torch.sin(k * phase) / k for k in range(1, 20)) + noise[i])
    return waves


def main():
    arguments = measuring.parser(__doc__).parse_args()
    a, b = voices()
    work, peer = f"MCD, log-F0 RMSE and voicing error of {SECONDS} s of speech", "pymcd, MCD alone"

    def ours():
        pair = Pair(a, b, RATE)
        for metric in (MCD(), LogF0RMSE(), VoicingError()):
            metric.update(pair)

    if absent := measuring.missing("pymcd", install="pymcd"):
        seconds = measuring.compare({"ours": ours}, arguments.repeats)["ours"]
        rows = [measuring.Row(work, peer, "process time", None, note=f"{absent}; ours {1e3 * seconds:.0f} ms")]
    else:
        rows = [measuring.against(work, peer, "process time", *beside_pymcd(ours, a, b, arguments.repeats))]
    measuring.write(rows, "metrics_of_synthesis", arguments.output)


def beside_pymcd(ours, a, b, repeats):
    """Seconds of the package, and ours."""
    from pymcd.mcd import Calculate_MCD

    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{name}.wav") for name in "ab"]
        for path, wave in zip(paths, (a, b), strict=True):
            audio.save(path, wave, RATE)
        package = Calculate_MCD("dtw")
        seconds = measuring.compare({"pymcd": lambda: package.calculate_mcd(*paths), "ours": ours}, repeats)
    return seconds["pymcd"], seconds["ours"]


if __name__ == "__main__":
    main()
