"""How time and memory of a Conformer grow with length, batch and parameters: ``python -m benchmarks.growth``, on Linux.

Each is taken once, twice, four and eight times, the others left as they are, in training (forward, loss, backward) and
at inference; and at inference once more with attention in one piece instead of chunks of queries, which is how it was
before. Process time of one thread, the least of the repeats; memory is what the process grows by at its peak. A row's
ratio is eight times the cost of x1 over the cost of x8: 1 is linear growth, less is faster than linear.
"""

import ctypes
import gc
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import measuring
from benchmarks.decoding_memory import growth
from benchmarks.measuring import Row
from hw_asr.losses.ctc import CTCLoss
from hw_asr.models.conformer import Conformer
from hw_base.nn import attention

FACTORS = (1, 2, 4, 8)
FRAMES_PER_SECOND, N_MELS, N_TOKENS = 100, 80, 128
PICTURE = Path(__file__).with_name("growth.svg")


@dataclass(frozen=True)
class Size:
    """Args:
    seconds: of each utterance.
    batch: utterances.
    width: of the encoder; parameters grow with its square.
    """

    seconds: float
    batch: int
    width: int


TRAINING, INFERENCE = Size(6.0, 2, 96), Size(30.0, 1, 96)


def scaled(size: Size, axis: str, factor: int) -> Size:
    """The size with one of its axes multiplied by a factor; parameters by the width, to a multiple of its heads."""
    if axis == "parameters":
        return replace(size, width=4 * round(size.width * factor**0.5 / 4))
    if axis == "length":
        return replace(size, seconds=size.seconds * factor)
    return replace(size, batch=size.batch * factor)


def model_of(size: Size) -> Conformer:
    torch.manual_seed(0)
    return Conformer(N_MELS, N_TOKENS, n_layers=4, width=size.width, n_heads=4, ff_width=4 * size.width)


def batch_of(size: Size) -> dict[str, Any]:
    frames = int(size.seconds * FRAMES_PER_SECOND)
    n_tokens = int(4 * size.seconds)
    return {
        "spectrogram": torch.randn(size.batch, N_MELS, frames, generator=torch.Generator().manual_seed(0)),
        "spectrogram_length": torch.full((size.batch,), frames),
        "tokens": torch.arange(n_tokens).expand(size.batch, -1) % (N_TOKENS - 1) + 1,
        "tokens_length": torch.full((size.batch,), n_tokens),
        "utterance_id": [str(i) for i in range(size.batch)],
    }


def train(model: Conformer, batch: dict[str, Any]) -> None:
    model.train()
    loss = CTCLoss()(**batch, **model(**batch))
    (loss.total / loss.count).backward()
    model.zero_grad(set_to_none=True)


@torch.no_grad()
def infer(model: Conformer, batch: dict[str, Any]) -> None:
    model.eval()
    model(**batch)


def in_one_piece(model: Conformer, batch: dict[str, Any]) -> None:
    chunk, attention.CHUNK = attention.CHUNK, sys.maxsize
    try:
        infer(model, batch)
    finally:
        attention.CHUNK = chunk


WORKS: dict[str, tuple[Callable[[Conformer, dict[str, Any]], None], Size]] = {
    "training": (train, TRAINING),
    "inference": (infer, INFERENCE),
    "inference, attention in one piece": (in_one_piece, INFERENCE),
}


def cost(work: Callable[[Conformer, dict[str, Any]], None], size: Size, repeats: int) -> tuple[float, float]:
    """Seconds, and megabytes at the peak."""
    model, batch = model_of(size), batch_of(size)
    best = float("inf")
    for _ in range(repeats):
        started = time.process_time()
        work(model, batch)
        best = min(best, time.process_time() - started)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # memory that earlier measurements freed would not be counted
    return best, growth(lambda: work(model, batch))[0]


def rows_of(name: str, axis: str, costs: list[tuple[float, float]]) -> list[Row]:
    """Of one axis: how far from linear time and memory are at x8."""
    found = []
    for kind, unit, values in (("time", "s", [c[0] for c in costs]), ("memory", "MB", [c[1] for c in costs])):
        goal = 0.9 if (name, kind) == ("inference", "memory") else None
        note = " -> ".join(f"{value:.3g}" for value in values) + f" {unit} at x1, x2, x4, x8"
        ratio = FACTORS[-1] * values[0] / values[-1]
        found.append(Row(f"{name}: {axis}", "linear growth", kind, ratio, goal, note))
    return found


def draw(costs: dict[tuple[str, str], list[tuple[float, float]]], path: Path) -> None:
    """Cost relative to x1 against the factor, both axes logarithmic, beside linear growth."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    axes_names = list(dict.fromkeys(axis for _, axis in costs))
    figure = Figure(figsize=(3.6 * len(axes_names), 6.4), layout="constrained")
    for row, kind in enumerate(("process time", "peak memory")):
        for column, axis in enumerate(axes_names):
            plot = figure.add_subplot(2, len(axes_names), row * len(axes_names) + column + 1)
            plot.plot(FACTORS, FACTORS, color="0.7", linestyle="--", label="linear")
            for (name, other), values in costs.items():
                if other == axis:
                    plot.plot(FACTORS, [value[row] / values[0][row] for value in values], marker="o", label=name)
            plot.set(xscale="log", yscale="log", title=f"{kind} by {axis}")
            for axis_ticks in (plot.set_xticks, plot.set_yticks):
                ticks = FACTORS if axis_ticks == plot.set_xticks else (*FACTORS, 16, 32, 64)
                axis_ticks(ticks, [f"x{factor}" for factor in ticks])
            plot.minorticks_off()
    figure.axes[0].legend(fontsize=7)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "growth"}):  # letters as letters; the same file each time
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = measuring.parser(__doc__, repeats=2)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    costs, rows = {}, []
    for name, (work, base) in WORKS.items():
        work(model_of(TRAINING), batch_of(TRAINING))  # what the first call of all loads
        for axis in ("length", "batch", "parameters"):
            costs[name, axis] = [cost(work, scaled(base, axis, factor), arguments.repeats) for factor in FACTORS]
            rows += rows_of(name, axis, costs[name, axis])
            print(rows[-2].work, rows[-2].note, rows[-1].note, flush=True)
    draw(costs, arguments.picture)
    measuring.write(rows, "growth", arguments.output)


if __name__ == "__main__":
    main()
