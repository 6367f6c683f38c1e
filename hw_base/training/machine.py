"""What is chosen by the machine that trains: precision, worker processes; and what slows it down."""

import math
import os
import time
from collections.abc import Callable
from typing import Any, Literal

import torch

from hw_base import distributed
from hw_base.nn.losses import as_sum_and_count
from hw_base.training.evaluation import Evaluator

# More readers than this are rarely waited for, and each takes memory.
_MOST_WORKERS = 8
# How many times as fast bfloat16 must be to be worth its rounding.
_GAIN = 1.05
_REPEATS = 3


def n_workers(setting: int | Literal["auto"], device: torch.device) -> int:
    """Processes that read, for a split.

    Args:
        setting: of the config. ``auto`` leaves one core to each training process of a GPU and takes up to 8 of the
            others; on a CPU that trains with all its cores one process reads ahead, on two cores or one none does.
        device: that trains.
    """
    if setting != "auto":
        return setting
    cores = distributed.n_cores()
    if device.type != "cuda":
        return int(cores > 2)
    return max(1, min(_MOST_WORKERS, cores // distributed.local_world_size() - 1))


def faster_precision(trainer: Evaluator, batch: dict[str, Any]) -> tuple[Literal["bf16", "off"], str]:
    """Which precision takes less CPU time for the forward and backward pass of a batch; nothing of the trainer changes.

    Args:
        trainer: on a CPU; its model may be in any state.
        batch: of training.

    Returns:
        choice: of the main process, which all processes take.
        sentence: what was measured.
    """
    seconds = {"off": math.inf, "bf16": math.inf}
    before = trainer.setup.amp_dtype
    try:
        with trainer.without_trace():
            for repeat in range(1 + _REPEATS):
                for name, dtype in (("off", None), ("bf16", torch.bfloat16)):
                    trainer.setup.amp_dtype = dtype
                    taken = _pass(trainer, batch)
                    if repeat:
                        seconds[name] = min(seconds[name], taken)
    finally:
        trainer.setup.amp_dtype = before
    choice = distributed.broadcast_object("bf16" if seconds["bf16"] * _GAIN < seconds["off"] else "off")
    sentence = f"a batch takes {seconds['off']:.3g} s of CPU time in float32 and {seconds['bf16']:.3g} s in bfloat16"
    return choice, sentence


def _pass(trainer: Evaluator, batch: dict[str, Any]) -> float:
    trainer.model.train()
    started = time.process_time()
    for _, losses in trainer.named_losses(trainer.to_device(dict(batch))):
        means = [as_sum_and_count(value) for value in losses.values()]
        torch.stack([mean.total / mean.count.clamp(min=1) for mean in means]).sum().backward()  # type: ignore[no-untyped-call]
    taken = time.process_time() - started
    for parameter in trainer.model.parameters():
        parameter.grad = None
    return taken


def advice_on_threads() -> str | None:
    """What to change where torch's threads wait for each other, as they do on cores that other programs use, too."""
    threads = torch.get_num_threads()
    if threads == 1:
        return None
    one, several = _work_of(1), _work_of(threads)
    torch.set_num_threads(threads)
    if several < 1.2 * one:
        return None
    load = f"; the load of this machine is {os.getloadavg()[0]:.1f} on {distributed.n_cores()} cores"
    return (
        f"{threads} threads take {several / one:.1f} times as long as one for the same small products, because they "
        f"wait for each other{load}: OMP_NUM_THREADS=1 before the command is likely to be faster"
    )


def _work_of(threads: int) -> float:
    """Seconds of work as in a small recurrent layer: many products, each too small for several threads to pay much."""
    torch.set_num_threads(threads)
    x, w = torch.ones(64, 256), torch.ones(256, 768)
    return min(_seconds(lambda: [torch.tanh(x @ w) for _ in range(20)]) for _ in range(5))


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
