"""How far speech follows its controls: ``python -m benchmarks.controls CKPT``.

For every speaker of a synthesizer, the ratio of F0 (median over voiced frames, by Harvest) or of level (RMS) with a
control to that without; the right answer is the factor itself.
"""

import argparse
import math
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from hw_base.runs import cli
from hw_tts.features.pitch import track
from hw_tts.synthesizer import Synthesizer

TEXTS = (
    "we have twelve heavy questions",
    "the old doctor never sleeps at home",
    "please bring some bread tomorrow",
    "every morning the king sings in the garden",
    "my mother likes golden apples",
)
FACTORS = (0.8, 0.9, 1.1, 1.25)
HOP = 256


def log_pitch(waveform: Tensor, rate: int) -> float:
    """Median of log F0."""
    found = track(waveform, rate, HOP, len(waveform) // HOP + 1, "harvest", floor=50.0)
    return float(found[found > 0].log().median())


def level(waveforms: list[Tensor]) -> float:
    """Root mean square over all."""
    return float(torch.cat(waveforms).square().mean().sqrt())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Measure how far speech follows pitch and energy.")
    parser.add_argument("checkpoint")
    arguments = parser.parse_args(argv)
    return cli.run(lambda: measure(Synthesizer.load(arguments.checkpoint)))


def measure(synthesizer: Synthesizer) -> int:
    """Print a table; the exit code."""
    rate = synthesizer.sample_rate
    print("| control | asked | " + " | ".join(synthesizer.speakers or ["voice"]) + " |")
    for control in ("pitch", "energy"):
        for factor in FACTORS:
            ratios = []
            for speaker in synthesizer.speakers or [None]:
                plain = synthesizer.speak_batch(TEXTS, speaker)
                changed = synthesizer.speak_batch(TEXTS, speaker, **{control: factor})
                if control == "pitch":
                    moved = [log_pitch(b, rate) - log_pitch(a, rate) for a, b in zip(plain, changed, strict=True)]
                    ratios.append(math.exp(sum(moved) / len(moved)))
                else:
                    ratios.append(level(changed) / level(plain))
            print(f"| {control} | {factor} | " + " | ".join(f"{ratio:.3f}" for ratio in ratios) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
