"""Examinations of what a run needs around it: memory, disk, trackers."""

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_base import registry
from hw_base.config.resolve import build
from hw_base.errors import HwError
from hw_base.examinations.findings import Finding
from hw_base.files.disk_space import free_memory, mib
from hw_base.training.trainer import BaseTrainer

# Of a parameter: itself, its gradient, two moments, and the copy from before the last update.
_COPIES = 5
# Where trackers that are told to go online send to.
HOSTS = {"CometWriter": ("www.comet.com", 443), "WandbWriter": ("api.wandb.ai", 443)}


def memory(trainer: BaseTrainer, batch: dict[str, Any]) -> Iterator[Finding]:
    """Whether the largest batch of training fits: what one backward pass keeps, and everything of the parameters."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with trainer.without_trace(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trainer.model.train()
        # Held until all is counted: so no address is used twice.
        parts = list(trainer.named_losses(trainer.to_device(dict(batch))))
    del parts
    own = {p.untyped_storage().data_ptr() for p in trainer.model.parameters()}
    activations = sum(size for place, size in kept.items() if place not in own)
    durations = trainer.loader.split.durations
    known = {record.utterance_id: record.duration for record in trainer.loader.split.records}
    seconds = [known[name] for name in batch["utterance_id"]]
    tried = max(seconds) * len(seconds)
    largest = max(max(durations[i] for i in b) * len(b) for b in trainer.loader.sampler.batches(0))
    states = _COPIES * sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    needed = states + int(activations * largest / tried)
    free = _free(trainer.device)
    evidence = f"about {mib(needed)} for the largest batch, {largest:.0f} s with its padding"
    evidence += f"; {mib(free)} free" if free else ""
    if free and needed > free:
        causes = ["the batch is too large", "the model is too large", "other programs hold the memory"]
        advice = "a smaller batch_size or max_batch_seconds, with trainer.accumulate"
        yield Finding("error", "the memory is too small", evidence, causes, advice)
    else:
        yield Finding("ok", "the memory suffices", evidence)


def _free(device: torch.device) -> int:
    """Bytes that are free; 0 where that is not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory()


def disk(trainer: BaseTrainer) -> Iterator[Finding]:
    """Whether the checkpoints that are kept fit on the disk."""
    one, count = trainer.space_needed()
    needed, free = one * count, shutil.disk_usage(Path.cwd()).free
    evidence = f"about {mib(needed)} of checkpoints, {mib(free)} free"
    if free < needed:
        advice = "free space, or keep fewer checkpoints"
        yield Finding("error", "the disk is too small for the checkpoints", evidence, ("it is full",), advice)
    else:
        yield Finding("ok", "the disk has room for the checkpoints", evidence)


def trackers(trainer: BaseTrainer) -> Iterator[Finding]:
    """Whether trackers have their packages and keys, and can be reached if they go online; the others write files."""
    config = trainer.setup.config
    for i, writer in enumerate(config.writers):
        try:
            # Nothing is opened yet: the constructor looks whether all is there.
            build(f"writers.{i}", writer, registry.WRITERS, run_dir=Path(), run_name=config.name, config={})
        except HwError as error:
            advice = "do as the line says, or leave this writer out"
            yield Finding("error", f"{writer.type} cannot start", str(error), advice=advice)
            continue
        place = HOSTS.get(writer.type)
        if place is None or writer.args.get("mode", "offline") != "online":
            yield Finding("ok", f"{writer.type} works offline")
            continue
        host = place[0]
        try:
            socket.create_connection(place, timeout=5).close()
        except OSError as error:
            causes = ["no network here", "a proxy or firewall"]
            advice = "mode: offline, and python -m hw_base.upload RUN later"
            yield Finding("error", f"{writer.type} cannot reach {host}", str(error), causes, advice)
        else:
            yield Finding("ok", f"{writer.type} reaches {host}")
