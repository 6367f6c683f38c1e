"""Training and decoding on one GPU, with data that it makes, in less than nine minutes: ``python -m benchmarks.gpu``.

For each recipe: seconds of audio (or steps) per second of the whole loop, loading included; the share of it spent
waiting for data; how often a step made the host wait for the device (`torch.cuda.set_sync_debug_mode`); peak memory;
the same compiled by `torch.compile`. Then beam search beside torchaudio's ``cuda_ctc_decoder``. Each part begins only
if its estimated time is left, so that the whole ends in time; what was left out is printed.

``--toy`` runs all of it with the smallest models, on a CPU too: its figures mean nothing, and are written to a file
only where ``-o`` names one.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

import hw_asr  # noqa: F401 - fills the registries
import hw_tts  # noqa: F401
from benchmarks import measuring
from benchmarks.measuring import Row
from hw_base.config.read import read
from hw_base.config.resolve import resolve
from hw_base.profiling.clock import wait_for
from hw_base.runs.experiment import Experiment

RATE = 16_000
SYNC_STEPS = 3
WORDS = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8").lower().split()


@dataclass(frozen=True)
class Recipe:
    """One training.

    Args:
        name: of the row.
        config: whose model, losses, features and batches are taken.
        toy: the config in its place under ``--toy``.
        goal: how much is wanted of `unit`; none where no goal was set.
        unit: ``audio-s`` of the batches, or ``steps``, per second.
        seconds: that it takes, estimated.
        sets: of the config.
        compiled: by `torch.compile`.
    """

    name: str
    config: str
    toy: str
    goal: float | None
    unit: str
    seconds: float
    sets: tuple[str, ...] = ("trainer.amp=bf16",)
    compiled: bool = False


CONFORMER = ("configs/librispeech/conformer_30m.json", "configs/tiny/conformer_bpe.json")
VITS2 = ("configs/vctk/vits2.json", "configs/tiny/vits2.json")
RECIPES = (
    Recipe("Conformer 130M", "configs/librispeech/conformer_130m.json", CONFORMER[1], 10_000, "audio-s", 60),
    Recipe("Conformer 30M", *CONFORMER, None, "audio-s", 40),
    Recipe("VITS2, batch of 32", *VITS2, 5, "steps", 60),
    Recipe("FastSpeech2", "configs/ljspeech/fastspeech2.json", "configs/tiny/fastspeech2.json", None, "steps", 30),
    Recipe("DeepSpeech2 5 x 800", "configs/librispeech/ds2.json", "configs/tiny/ds2.json", None, "audio-s", 40),
    Recipe("Conformer 30M", *CONFORMER, None, "audio-s", 100, compiled=True),
    Recipe("VITS2, batch of 32", *VITS2, None, "steps", 100, compiled=True),
)


def make_recordings(folder: Path, count: int, seconds: tuple[float, float]) -> Path:
    """Write FLAC files of tones and noise with sentences of real words, and a manifest of them."""

    def one(i: int) -> str:
        draws = random.Random(i)
        length = draws.uniform(*seconds)
        n = int(length * RATE)
        noise = np.random.default_rng(i).standard_normal(n).astype(np.float32)
        tones = sum(np.sin(2 * np.pi * draws.uniform(100, 4000) * np.arange(n) / RATE) for _ in range(3))
        soundfile.write(folder / f"{i:04d}.flac", 0.05 * (noise + tones), RATE)
        text = " ".join(draws.choices(WORDS, k=max(1, int(2.2 * length))))
        return json.dumps({"audio_path": f"{i:04d}.flac", "text": text, "duration": n / RATE, "speaker": "tone"})

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        lines = list(pool.map(one, range(count)))
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def config_of(recipe: Recipe, manifest: Path, toy: bool) -> Any:
    """The recipe on data made here, without evaluations, checkpoints and trackers."""
    config = dict(read(recipe.toy if toy else recipe.config))
    train = {**config["data"]["train"], "on_bad_data": "skip"}
    if config["task"] == "asr":
        train["datasets"] = [{"type": "Manifest", "args": {"path": str(manifest)}}]
    elif not toy:
        speech = {"n_utterances": 512, "sample_rate": 22_050, "grammar": "wide"}
        train["datasets"] = [{"type": "SyntheticSpeech", "args": speech}]
    train |= {"workers": 0, "batch_size": 2} if toy else {"workers": min(train.get("workers", 0), os.cpu_count() or 1)}
    kept = {key: config["trainer"][key] for key in ("type", "args") if key in config["trainer"]}
    config |= {"data": {"train": train}, "trainer": {**kept, "max_steps": 1_000_000, "log_every": 1_000_000}}
    config.pop("writers", None)
    return resolve(config, [*recipe.sets, "metrics={}", "writers=[]"])


class Training:
    """A recipe's trainer, fed by its own loader."""

    def __init__(self, config: Any, device: torch.device, compiled: bool) -> None:
        self.device = device
        self.trainer = Experiment(config, device).trainer(None)
        if compiled:
            for name, network in self.trainer.networks.items():
                # On a CPU, where it is not worth its minutes, the graphs are captured and nothing is generated.
                backend = "inductor" if device.type == "cuda" else "eager"
                self.trainer.networks[name] = torch.compile(network, dynamic=True, backend=backend)
        self.waited, self._batches = 0.0, self._endless()

    def _endless(self) -> Iterator[dict[str, Any]]:
        while True:
            yield from self.trainer.loader

    def steps(self, count: int, seconds: float) -> tuple[int, float, float]:
        """Train for some steps, or at most for some seconds: steps, seconds of audio, seconds."""
        self.waited, audio, done, began = 0.0, 0.0, 0, time.perf_counter()
        while done < count and time.perf_counter() - began < seconds:
            asked = time.perf_counter()
            batch = next(self._batches)
            self.waited += time.perf_counter() - asked
            audio += float(batch["spectrogram_length"].sum()) * self._frame_seconds()
            self.trainer.train_step(batch)
            done += 1
        wait_for(self.device)
        return done, audio, time.perf_counter() - began

    def waits(self) -> float | None:
        """How often the host waited for the device, a step; none on a CPU."""
        if self.device.type != "cuda":
            return None
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(SYNC_STEPS):
                self.trainer.train_step(next(self._batches))
        torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(one.message) for one in caught) / SYNC_STEPS

    def _frame_seconds(self) -> float:
        args = self.trainer.setup.config.features.args
        return args["hop_length"] / args["sample_rate"]


def measure(recipe: Recipe, manifest: Path, device: torch.device, toy: bool, seconds: float) -> list[Row]:
    """Rows of one recipe: its pace, and how long it waited for data."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    training = Training(config_of(recipe, manifest, toy), device, recipe.compiled)
    training.steps(2 if toy else 8, seconds / 2)  # allocators, autotuning, compilation, the loader's start
    waits = training.waits()
    steps, audio, took = training.steps(2 if toy else 200, seconds / 3)
    pace = (audio if recipe.unit == "audio-s" else steps) / took
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None
    share = training.waited / took
    note = f"{pace:,.1f} {recipe.unit} per s, {steps} steps of {audio / steps:.0f} audio-s in {took / steps:.4f} s"
    note += f", data_wait {100 * share:.1f} %"
    note += "" if waits is None else f", {waits:.1f} waits a step, peak {peak:.1f} GB"
    kind = "bf16, compiled" if recipe.compiled else "bf16"
    work = f"{recipe.name}, {recipe.unit} per s"
    if recipe.goal is None or toy:
        return [Row(work, "-", kind, None, None, note)]
    waiting = Row(f"{recipe.name}, data_wait", "2 %", kind, 0.02 / max(share, 1e-9), 1.0, f"{100 * share:.1f} %")
    return [Row(work, f"{recipe.goal:,g}", kind, pace / recipe.goal, 1.0, note), waiting]


def main(argv: list[str] | None = None) -> int:
    parser = measuring.parser(__doc__, repeats=20)
    parser.add_argument("--toy", action="store_true", help="the smallest models, to see that everything runs")
    parser.add_argument("--minutes", type=float, default=8.5, help="minutes after which no other part is started")
    arguments = parser.parse_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not arguments.toy:
        print("no GPU was found: there is nothing to measure here; --toy shows that everything runs", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        rows = run(Path(folder), device, arguments)
    if arguments.toy and arguments.output is None:
        print(measuring.table(rows))  # `python -m benchmarks` would put them among the results
    else:
        measuring.write(rows, "gpu", arguments.output)
    return 0


def run(folder: Path, device: torch.device, arguments: argparse.Namespace) -> list[Row]:
    """Every part that there is time for."""
    ends = time.monotonic() + 60 * arguments.minutes
    manifest = make_recordings(folder, 8 if arguments.toy else 800, (1.0, 1.5) if arguments.toy else (4.0, 16.5))
    rows: list[Row] = []
    parts: list[tuple[str, float, Any]] = [
        (r.name, r.seconds, lambda r=r: measure(r, manifest, device, arguments.toy, r.seconds)) for r in RECIPES
    ]
    parts.insert(5, ("decoding", 60, lambda: decoding(device, arguments)))
    for name, seconds, part in parts:
        left = ends - time.monotonic()
        if left < seconds and not arguments.toy:
            rows.append(Row(name, "-", "-", None, None, f"left out: {left:.0f} s left, about {seconds:.0f} s needed"))
            continue
        print(f"{name} ({left:.0f} s left)", flush=True)
        rows += part()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def decoding(device: torch.device, arguments: argparse.Namespace) -> list[Row]:
    """Beam search on the GPU; on a CPU, where it has no kernel, the engine in tensors."""
    from benchmarks import decoding_gpu

    if arguments.toy:
        return decoding_gpu.rows(device, utterances=2, batch=2, beam=4, repeats=1, real=False)
    return decoding_gpu.rows(device, repeats=arguments.repeats)


if __name__ == "__main__":
    sys.exit(main())
