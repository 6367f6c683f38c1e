"""Monotonic alignment search: our engines against the widespread Cython loop, written in C and compiled here.

    python -m benchmarks.alignment

One thread, all in one process, rounds interleaved, the fastest of them counts. Cython makes the same C of that loop;
without a C compiler only our own engines are measured. Each side starts from a float32 tensor and ends with a path; the
loop works in place, so that it needs a copy of the scores, as its users make one.
"""

import ctypes
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

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
ROUNDS = 9
SHAPES = [(16, 500, 100), (32, 400, 150), (32, 800, 160), (32, 800, 300), (64, 800, 160)]


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        loop = compile_loop(Path(folder))
        for shape in SHAPES:
            measure(shape, loop)


def measure(shape: tuple[int, int, int], loop: Callable[..., Tensor] | None) -> None:
    """Time all sides on one batch, check that they agree, print a line."""
    B, T, L = shape
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(shape, generator=generator)
    frames = torch.randint(int(T * 0.6), T + 1, (B,), generator=generator)
    tokens = torch.randint(int(L * 0.6), L + 1, (B,), generator=generator)
    sides: dict[str, Callable[[], Tensor]] = {
        "numba": lambda: search_path(scores, frames, tokens, "numba"),
        "numba, durations only": lambda: search_durations(scores, frames, tokens, "numba"),
        "tensor": lambda: search_path(scores, frames, tokens, "tensor"),
    }
    if loop is not None:
        sides["C"] = lambda: loop(scores, frames, tokens)
    seconds = dict.fromkeys(sides, float("inf"))
    paths = {name: side() for name, side in sides.items()}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    assert torch.equal(paths["numba"], paths["tensor"])
    line = ", ".join(f"{name} {1000 * value:.2f} ms" for name, value in seconds.items())
    if loop is not None:
        assert torch.equal(paths["numba"], paths["C"].float()), "the paths differ"
        line += f"; path {seconds['C'] / seconds['numba']:.2f}x, durations "
        line += f"{seconds['C'] / seconds['numba, durations only']:.2f}x as fast as C, identical"
    print(f"{B} x {T} x {L}: {line}")


def compile_loop(folder: Path) -> Callable[..., Tensor] | None:
    """The C loop as a function of tensors, or None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        print("no C compiler: our engines only")
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
