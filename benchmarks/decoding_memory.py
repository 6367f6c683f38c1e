"""Memory of language models and of beam search: ``python -m benchmarks.decoding_memory [--ngrams 1000000]``, on Linux.

The language model is a 3-gram, estimated from random sentences of LibriSpeech's words by their frequency; its megabytes
are those of its arrays, and what a new process grows by when it opens the model from the cache. A search's megabytes
are what a new process grows by at its peak while it decodes random posteriors of 400 frames, V = 29, blanks not
skipped, the posteriors themselves not counted.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.decoding_data import N_FRAMES, TEXTS
from hw_asr.decoders import BeamSearch
from hw_asr.language_models.arpa import write_arpa
from hw_asr.language_models.cache import open_ngram
from hw_asr.language_models.kneser_ney import estimate
from hw_asr.text_encoders.characters import CharTextEncoder

COUNTS = TEXTS / "librispeech_train_word_counts.txt"
SENTENCE = 20  # words
MEGABYTE = 1e6


def status(key: str) -> float:
    """A number of kB in the process's status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def growth(work: Callable[[], object]) -> tuple[float, float]:
    """Megabytes that ``work`` needs at its peak, and that are still there while its result is held."""
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    result = work()
    after = status("VmHWM") - before, status("VmRSS") - before
    del result
    return after[0] / MEGABYTE, after[1] / MEGABYTE


def in_new_process(measure: Callable[..., tuple[float, float]], *arguments: object) -> tuple[float, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def open_model(path: str) -> tuple[float, float]:
    open_ngram(str(Path(path).with_name("small.arpa")))  # what the first model of all loads
    return growth(lambda: open_ngram(path))


def search(engine: str, B: int, K: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    decoder = BeamSearch(CharTextEncoder(), K, engine=engine, tokens_per_frame=10)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.log_softmax(3.0 * torch.randn(B, N_FRAMES, 29, generator=generator), -1)
    decoder(log_probs[:1, :3], torch.tensor([3]))  # compiles
    return growth(lambda: decoder(log_probs, torch.full((B,), N_FRAMES)))


def model(n_grams: int) -> None:
    lines = [line.split("\t")[:2] for line in COUNTS.open()]
    counts = np.array([float(count) for _, count in lines])
    random, n = np.random.default_rng(0), 2 * n_grams // 3
    sentences = random.choice(len(lines), (n // SENTENCE, SENTENCE), p=counts / counts.sum()).tolist()
    words = [[lines[i][0] for i in sentence] for sentence in sentences]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        path, small = Path(folder) / "lm.arpa", Path(folder) / "small.arpa"
        arpa = estimate(words, 3)[0]
        write_arpa(arpa, path)
        write_arpa(estimate(words[:10], 3)[0], small)
        arrays = open_ngram(str(path)).nbytes() / MEGABYTE
        open_ngram(str(small))
        peak, held = in_new_process(open_model, str(path))
    sizes = ", ".join(f"{len(grams.words):,}" for grams in arpa.grams)
    total = sum(len(grams.words) for grams in arpa.grams)
    print(
        f"3-gram of {total:,} n-grams ({sizes}): arrays {arrays:.1f} MB, process {held:.1f} MB, at its peak {peak:.1f}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ngrams", type=int, default=1_000_000, help="about this many")
    arguments = parser.parse_args(argv)
    if not COUNTS.is_file():
        print(f"error: {COUNTS}: the counts of LibriSpeech's words are not there", file=sys.stderr)
        return 2
    model(arguments.ngrams)
    for engine in ("tensor", "compiled"):
        print(f"\n| {engine}: B | beam | MB | kB for each of B x beam |\n|---|---|---|---|")
        for B, K in ((8, 50), (8, 100), (8, 200), (8, 400), (16, 200), (32, 200), (64, 200)):
            peak, _ = in_new_process(search, engine, B, K)
            print(f"| {B} | {K} | {peak:.1f} | {1e3 * peak / (B * K):.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
