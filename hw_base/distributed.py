"""Several processes under ``torchrun``; every function also works in a single one."""

import contextlib
import datetime
import importlib
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hw_base.errors import ConfigError, ProcessLostError

# What `choose_device` knows, for the help of programs.
DEVICES = "auto (a GPU of NVIDIA, else cpu), cpu, cuda, cuda:N, the number of a GPU, or mps (Apple)"


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def active() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if active() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if active() else 1


def local_world_size() -> int:
    """How many of them run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if active() else 1


def is_main() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def start(device: str, timeout: float | None = None) -> torch.device:
    """Join the processes that ``torchrun`` started, if it did, and choose the device.

    Args:
        device: see `choose_device`.
        timeout: seconds that a process waits for the others; None is as torch has it.
    """
    local = int(os.environ.get("LOCAL_RANK", 0))
    chosen = choose_device(device, local)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        limit = {} if timeout is None else {"timeout": datetime.timedelta(seconds=timeout)}
        with waiting():
            init_group("nccl" if chosen.type == "cuda" else "gloo", **limit)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    return chosen


def init_group(backend: str, **how: Any) -> None:
    """Form the group of all processes.

    Args:
        backend: ``gloo`` or ``nccl``.
        how: as `torch.distributed.init_process_group` takes it; nothing under ``torchrun``.
    """
    # Default arguments of this module are the group that exists when it is first imported, which torch does on its own
    # later, with the first optimizer. Then the group outlasts `stop`, and its threads, which drop tensors when
    # Python is gone already, may abort a program that has done its work.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group(backend, **how)


def choose_device(name: str, local: int = 0) -> torch.device:
    """The device of a name.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``cuda:N``, the number of a GPU, or ``mps``. ``auto`` is CUDA where torch can
            use a GPU, else the CPU: Apple's GPU lacks operators, so it is chosen by name alone.
        local: number of the GPU where the name leaves it open.

    Raises:
        ConfigError: no such device.
    """
    if name == "auto":
        return torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if name.isdigit():
        name = f"cuda:{name}"
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise ConfigError("--device mps: this machine has no Apple GPU that torch can use")
        return torch.device("mps")
    if name not in ("cpu", "cuda") and not (name.startswith("cuda:") and name[5:].isdigit()):
        raise ConfigError(f"--device {name}: expected auto, cpu, cuda, cuda:N, the number of a GPU, or mps")
    device = torch.device("cuda", local) if name == "cuda" else torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: this machine has {torch.cuda.device_count()} GPUs that torch can use")
    return device


def stop() -> None:
    """Leave the group."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Surrounds what waits for the other processes.

    Raises:
        ProcessLostError: one of them is gone, or has not come within the time-out.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        here, of = os.environ.get("RANK", rank()), os.environ.get("WORLD_SIZE", world_size())
        reason = str(error).splitlines()[0][:200]
        raise ProcessLostError(
            f"process {here} of {of}: another process is gone, or did not come within the time-out (trainer.timeout): "
            f"{reason}; the run resumes from its newest checkpoint with -r auto"
        ) from error


def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of a tensor over all processes, without gradient; the tensor itself stays as it is."""
    return _reduced(value, dist.ReduceOp.SUM)


def largest(value: Tensor) -> Tensor:
    """The largest of each number of a tensor over all processes."""
    return _reduced(value, dist.ReduceOp.MAX)


def _reduced(value: Tensor, how: Any) -> Tensor:
    if not active():
        return value
    total = value.detach().clone()
    with waiting():
        dist.all_reduce(total, how)
    return total


def gather(value: Any) -> list[Any]:
    """What each process gives, in the order of ranks, on every process."""
    if not active():
        return [value]
    everything: list[Any] = [None] * world_size()
    with waiting():
        dist.all_gather_object(everything, value)
    return everything


def broadcast_object(value: Any) -> Any:
    """The main process's value, on every process."""
    if not active():
        return value
    box = [value]
    with waiting():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def broadcast_model(network: nn.Module) -> None:
    """Give every process the main one's parameters and buffers."""
    if not active():
        return
    for tensor in [*network.parameters(), *network.buffers()]:
        value = tensor.detach().contiguous()
        with waiting():
            dist.broadcast(value, src=0)
        tensor.detach().copy_(value)
