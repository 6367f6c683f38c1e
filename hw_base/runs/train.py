"""What ``train.py`` does: train, resume, try one batch, try everything once."""

import logging
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from hw_base import checkpoint, distributed, trained
from hw_base.config.resolve import as_dict, read, resolve
from hw_base.config.schema import TRAIN_SPLIT, Config
from hw_base.errors import ConfigError
from hw_base.examinations.examine import preflight
from hw_base.files import sources
from hw_base.nn.dropout import without_dropout
from hw_base.runs import folder as run_folder
from hw_base.runs import logs
from hw_base.runs.experiment import Experiment
from hw_base.training.machine import advice_on_threads
from hw_base.training.trainer import BaseTrainer

log = logging.getLogger(__name__)

ONE_BATCH_STEPS = 1000


def choose_config(arguments: Namespace) -> tuple[Config, Path | None]:
    """The config to train with and the checkpoint to resume from.

    A resumed run has its config inside the checkpoint; ``-c`` beside ``-r PATH`` lays the file's sections over it.
    """
    overrides = list(arguments.set)
    if arguments.bs is not None:
        overrides.append(f"data.{TRAIN_SPLIT}.batch_size={arguments.bs}")
    raw = read(arguments.config) if arguments.config else None
    if arguments.resume is None:
        if raw is None:
            raise ConfigError("nothing to train: give a config with -c, or a checkpoint with -r")
        return resolve(with_lr(raw, arguments.lr), overrides), None
    name = raw.get("name") if raw else None
    if arguments.resume == run_folder.AUTO and name is None and arguments.run_dir is None:
        raise ConfigError("-r auto needs -c CONFIG, or --run-dir DIR, to know which run to continue")
    source = run_folder.find_checkpoint(arguments.resume, arguments.run_dir, name)
    if source is None and raw is None:
        raise ConfigError(f"-r auto: {arguments.run_dir} holds no checkpoint, and there is no -c CONFIG to start from")
    saved = trained.read(source, checkpoint.RUN_PARTS)["config"] if source is not None else {}
    config = resolve(with_lr({**saved, **(raw or {})}, arguments.lr), overrides, source, raw)
    if source is not None:
        _refuse_other_tokens(config, saved, source)
    return config, source


def _refuse_other_tokens(config: Config, saved: dict[str, Any], source: Path) -> None:
    """The weights mean the tokens that they were trained with."""
    before = resolve({**as_dict(config), "task": saved.get("task"), "text_encoder": saved.get("text_encoder")})
    pairs = (("task", before.task, config.task), ("text_encoder", before.text_encoder, config.text_encoder))
    for section, old, new in pairs:
        if old != new:
            raise ConfigError(
                f"{section}: {source} was trained with another one, which cannot be changed on resuming; start a new "
                "run with init_from"
            )


def with_lr(raw: dict[str, Any], lr: float | None) -> dict[str, Any]:
    """The config with another learning rate for every optimizer; a schedule's own peak follows it."""
    optimizers = raw.get("optimizers")
    if lr is None or not isinstance(optimizers, dict):
        return raw
    changed = {}
    for name, optimizer in optimizers.items():
        optimizer = {"type": optimizer} if isinstance(optimizer, str) else dict(optimizer)
        optimizer["args"] = {**optimizer.get("args", {}), "lr": lr}
        schedule = optimizer.get("scheduler")
        if isinstance(schedule, dict) and "max_lr" in schedule.get("args", {}):
            optimizer["scheduler"] = {**schedule, "args": {**schedule["args"], "max_lr": lr}}
        changed[name] = optimizer
    return {**raw, "optimizers": changed}


def train(arguments: Namespace, config: Config, source: Path | None) -> None:
    """Train as asked; `source` is the checkpoint to resume from."""
    device = distributed.start(arguments.device, config.trainer.timeout)
    logs.start()
    state = trained.read(source, checkpoint.RUN_PARTS) if source is not None else None
    experiment = Experiment(config, device, state, source or "")
    if arguments.dry_run:
        dry_run(experiment)
    elif arguments.one_batch:
        one_batch(experiment)
    else:
        path = _run_dir(arguments, config, source)
        if source is not None:
            run_folder.refuse_rewinding(source, path)
        run(experiment, path, source, anew=arguments.resume == run_folder.AUTO)


def _run_dir(arguments: Namespace, config: Config, source: Path | None) -> Path:
    if source is not None and arguments.run_dir is None and not sources.is_address(arguments.resume):
        return source.resolve().parent
    path: Path = distributed.broadcast_object(run_folder.choose(arguments.run_dir, config.name))
    return path


def run(experiment: Experiment, path: Path, source: Path | None, anew: bool = False) -> dict[str, float]:
    """Train in a run folder; the last evaluation's values.

    Args:
        experiment: what is trained.
        path: the run folder.
        source: the checkpoint to resume from.
        anew: whether a run there that ended before its first checkpoint is started again.
    """
    folder = run_folder.RunFolder(path, resuming=source is not None or anew) if distributed.is_main() else None
    handler = logs.to_file(path / "train.log") if folder else None
    try:
        if folder:
            folder.describe(as_dict(experiment.config), experiment.device)
        log.info("run folder: %s", path)
        trainer = experiment.trainer(path)
        if folder:
            folder.describe(as_dict(experiment.config), experiment.device)  # with what was measured
        advice = advice_on_threads() if experiment.device.type == "cpu" and folder else None
        if advice:
            log.warning("threads: %s", advice)
        if source is not None and experiment.state is not None:
            trainer.load_state_dict(experiment.state, source)
            trainer.setup.writers.load_state_dict(experiment.state["writers"], trainer.step)
            if folder:
                checkpoint.set_aside(path, trainer.step)
            trainer.repair_folder(source)
            log.info("resumed from %s, step %d", source, trainer.step)
        else:
            if trainer.section.preflight and not distributed.active():
                preflight(trainer)
            if folder is not None and folder.holds_run:
                log.info("the run there ended before its first checkpoint: it is started again")
                trainer.setup.writers.load_state_dict({}, -1)
        trainer.check_space()
        try:
            values = trainer.train()
        finally:
            trainer.setup.writers.close()
        monitor = trainer.monitor
        if monitor.best is not None:
            best = path / checkpoint.BEST
            log.info("best %s: %.4f at step %d, in %s", monitor.key, monitor.best, monitor.best_step, best)
        return values
    finally:
        if handler is not None:
            logs.stop(handler)
        if folder is not None:
            folder.close()


def dry_run(experiment: Experiment) -> None:
    """Build everything, take one batch through one update, say what there is; nothing is written."""
    trainer = experiment.trainer(None)
    batch = next(iter(trainer.loader))
    for key, value in batch.items():
        if isinstance(value, torch.Tensor):
            log.info("  batch[%r]: %s %s", key, tuple(value.shape), str(value.dtype).removeprefix("torch."))
    for name, network in trainer.model.parameter_groups().items():
        total = sum(p.numel() for p in network.parameters())
        free = sum(p.numel() for p in network.parameters() if p.requires_grad)
        log.info("  parameters of %r: %s, %s of them trained", name, f"{total:,}", f"{free:,}")
    trainer.train_step(batch)
    trainer.guard.read()
    figures = ", ".join(f"{name} {value:.4g}" for name, value in trainer.window.read().items())
    log.info("one update: %s", figures)
    epochs = trainer.last_step / len(trainer.loader)
    log.info("dry run done: training would take %d steps, %.1f epochs", trainer.last_step, epochs)


def one_batch(experiment: Experiment) -> bool:
    """Overfit the first training batch: a model that cannot do this cannot learn anything.

    It has its own length and neither schedules nor dropout; every step is looked at.

    Raises:
        ConfigError: it did not learn the batch.
    """
    trainer = experiment.trainer(None, schedules=False)
    without_dropout(trainer.model)
    batch = next(iter(trainer.loader))
    first, best, step = math.nan, math.inf, 0
    # Well learned soon, or just learned after a while.
    while step < ONE_BATCH_STEPS and not best <= trainer.one_batch_ratio * first * (0.5 if step < 300 else 1.0):
        seen = dict(batch)
        trainer.train_step(seen)
        trainer.guard.read()
        value, step = _mean_loss(trainer), step + 1
        first = value if step == 1 else first
        best = min(best, value) if math.isfinite(value) else best
        if step == 1 or step % 10 == 0:
            log.info("step %d: %s %.4f", step, trainer.one_batch_metric, value)
    for line in trainer.compare(batch):
        log.info("  %s", line)
    size = len(batch["utterance_id"])
    verdict = f"{trainer.one_batch_metric} {first:.4f} -> {best:.4f} on one batch of {size} after {step} steps"
    if not best <= trainer.one_batch_ratio * first:
        raise ConfigError(
            f"one batch: NOT learned: {verdict}. Try another learning rate; if nothing helps, look for a fault in the "
            "model, the lengths or the loss"
        )
    log.info("one batch: learned: %s", verdict)
    return True


def _mean_loss(trainer: BaseTrainer) -> float:
    values = trainer.window.read()
    return sum(value for name, value in values.items() if name.rpartition("/")[2] == trainer.one_batch_metric)
