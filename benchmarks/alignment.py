"""Monotonic alignment search: our engines against the widespread Cython loop, written in C and compiled here.

    python -m benchmarks.alignment [--repeats 9]

Process time of one thread, the sides in turn, the least of the repeats. Cython makes the same C of that loop; without a
C compiler only our own engines are measured. Each side starts from a float32 tensor and ends with a path; the loop
works in place, so that it needs a copy of the scores, as its users make one.
"""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import measuring
from benchmarks.measuring import Row
from hw_tts.alignment.search import search_durations, search_path

_LOOP = """
#include <stdint.h>
void search(int32_t *path, float *value, const int64_t *t_ys, const int64_t *t_xs, int64_t B, int64_t T, int64_t L) {
  for (int64_t b = 0; b < B; b++, path += T * L, value += T * L) {
    const int64_t t_y = t_ys[b], t_x = t_xs[b];
    for (int64_t y = 0; y < t_y; y++) {
      const int64_t first = t_x + y - t_y > 0 ? t_x + y - t_y : 0, end = t_x < y + 1 ? t_x : y + 1;
      for (int64_t x = first; x < end; x++) {
        const float stay = x == y ? -1e9f : value[(y - 1) * L + x];
        const float move = x == 0 ? (y == 0 ? 0.0f : -1e9f) : value[(y - 1) * L + x - 1];
        value[y * L + x] += move > stay ? move : stay;
      }
    }
    for (int64_t y = t_y - 1, x = t_x - 1; y >= 0; y--) {
      path[y * L + x] = 1;
      if (x != 0 && (x == y || value[(y - 1) * L + x] < value[(y - 1) * L + x - 1])) x--;
    }
  }
}
"""
SHAPES = [(16, 500, 100), (32, 400, 150), (32, 800, 160), (32, 800, 300), (64, 800, 160)]
PEER = "the Cython loop, as C, -O3"


def main() -> None:
    arguments = measuring.parser(__doc__, repeats=9).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        loop = compile_loop(Path(folder))
        rows = [row for shape in SHAPES for row in measure(shape, loop, arguments.repeats)]
    measuring.write(rows, "alignment", arguments.output)


def measure(shape: tuple[int, int, int], loop: Callable[..., Tensor] | None, repeats: int) -> list[Row]:
    """Time all sides on one batch, and check that they agree."""
    B, T, L = shape
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(shape, generator=generator)
    frames = torch.randint(int(T * 0.6), T + 1, (B,), generator=generator)
    tokens = torch.randint(int(L * 0.6), L + 1, (B,), generator=generator)
    sides: dict[str, Callable[[], Tensor]] = {
        "numba": lambda: search_path(scores, frames, tokens, "numba"),
        "durations": lambda: search_durations(scores, frames, tokens, "numba"),
        "tensor": lambda: search_path(scores, frames, tokens, "tensor"),
    }
    if loop is not None:
        sides["C"] = lambda: loop(scores, frames, tokens)
    paths = {name: side() for name, side in sides.items()}
    assert torch.equal(paths["numba"], paths["tensor"])
    assert loop is None or torch.equal(paths["numba"], paths["C"].float()), "the paths differ"
    seconds = measuring.compare(sides, repeats)
    work = f"alignment search, {B} x {T} x {L}"
    if loop is None:
        return [Row(work, PEER, "path", None, note=f"no C compiler; ours {1e3 * seconds['numba']:.2f} ms")]
    return [
        measuring.against(work, PEER, "path", seconds["C"], seconds["numba"], "the same path"),
        measuring.against(work, PEER, "path : durations", seconds["C"], seconds["durations"]),
        measuring.against(work, "our engine in tensors", "path", seconds["tensor"], seconds["numba"]),
    ]


def compile_loop(folder: Path) -> Callable[..., Tensor] | None:
    """The C loop as a function of tensors, or None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    (folder / "loop.c").write_text(_LOOP)
    library = folder / "loop.so"
    subprocess.run([compiler, "-O3", "-shared", "-fPIC", "-o", str(library), str(folder / "loop.c")], check=True)
    function = ctypes.CDLL(str(library)).search

    def search(scores: Tensor, frames: Tensor, tokens: Tensor) -> Tensor:
        value, path = scores.clone(), torch.zeros(scores.shape, dtype=torch.int32)
        pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (path, value, frames, tokens)]
        function(*pointers, *(ctypes.c_int64(size) for size in scores.shape))
        return path

    return search


if __name__ == "__main__":
    main()
