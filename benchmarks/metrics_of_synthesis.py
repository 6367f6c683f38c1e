"""CPU seconds for distortion, pitch and voicing of a pair of 3 s: ours, and the package pymcd where it is installed.

    python -m benchmarks.metrics_of_synthesis

Ours gives three figures of one analysis, by exact warping; pymcd gives the first of them, by an approximate one.
"""

import tempfile
import time
from pathlib import Path

import torch

from hw_base.audio import io as audio
from hw_tts.metrics.base import Pair
from hw_tts.metrics.cepstral import MCD
from hw_tts.metrics.prosody import LogF0RMSE, VoicingError

RATE, SECONDS, REPEATS = 22050, 3, 5


def voices():
    """Two vowels with gliding pitch and some noise."""
    t = torch.arange(SECONDS * RATE) / RATE
    noise = 0.01 * torch.randn(2, len(t), generator=torch.Generator().manual_seed(0))
    waves = []
    for i, f0 in enumerate((140.0, 170.0)):
        phase = 2 * torch.pi * f0 * (t + 0.05 * torch.sin(3 * t))
        waves.append(0.2 * sum(torch.sin(k * phase) / k for k in range(1, 20)) + noise[i])
    return waves


def best(work):
    """The least CPU time of several, which other programs disturb less."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main():
    torch.set_num_threads(1)
    a, b = voices()

    def ours():
        pair = Pair(a, b, RATE)
        for metric in (MCD(), LogF0RMSE(), VoicingError()):
            metric.update(pair)

    ours()
    seconds = best(ours)
    print(f"ours: {seconds:.3f} s for MCD, log-F0 RMSE and voicing error of {SECONDS} s of speech")
    try:
        from pymcd.mcd import Calculate_MCD
    except ImportError:
        print("pymcd is not installed, so there is nothing to compare with")
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / f"{name}.wav") for name in "ab"]
        for path, wave in zip(paths, (a, b), strict=True):
            audio.save(path, wave, RATE)
        package = Calculate_MCD("dtw")
        theirs = best(lambda: package.calculate_mcd(*paths))
    print(f"pymcd: {theirs:.3f} s for MCD alone; ratio {theirs / seconds:.1f}")


if __name__ == "__main__":
    main()
