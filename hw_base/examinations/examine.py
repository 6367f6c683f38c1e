"""All examinations of one experiment, and the cheap ones that precede every training."""

import logging
from collections.abc import Callable, Iterator

from hw_base.config.schema import TRAIN_SPLIT
from hw_base.errors import HwError
from hw_base.examinations import data, model, surroundings
from hw_base.examinations.findings import Finding
from hw_base.recognizer import Recognizer
from hw_base.task import BaseTask
from hw_base.training.trainer import BaseTrainer

log = logging.getLogger(__name__)

# Utterances in the batch that model and losses are tried on.
_N_TRIED = 4


def examine(
    make_trainer: Callable[[], BaseTrainer], task: BaseTask, recognizer: Recognizer | None = None
) -> Iterator[Finding]:
    """Everything, data first; an error of the data that nothing can follow ends it.

    Args:
        make_trainer: builds the trainer of an experiment, without schedules.
        task: of the experiment.
        recognizer: says whether transcripts belong to their audio.
    """
    try:
        trainer = make_trainer()
    except HwError as error:
        yield Finding("error", "the experiment cannot be built", str(error), (), "correct what it names")
        return
    splits = {name: loader.split for name, loader in trainer.setup.loaders.items()}
    for split in splits.values():
        yield from data.decodes(split)
        yield from data.alphabet(split, task)
        yield from data.transcripts_belong(split)
        if recognizer is not None:
            yield from data.understood(split, recognizer)
    yield from data.apart(splits, TRAIN_SPLIT)
    yield from surroundings.disk(trainer)
    yield from surroundings.trackers(trainer)
    try:
        batch = trainer.loader.sample(_N_TRIED)
    except HwError as error:
        yield Finding("error", "no batch can be made", str(error), ["see above"], "mend the data")
        return
    if not (yield from model.features(batch, TRAIN_SPLIT)):
        return
    yield from model.dropout(trainer)
    finite = yield from model.first_losses(trainer, batch)
    yield from surroundings.memory(trainer, batch)
    yield from task.examine(trainer, batch, cheap=False)
    if finite:
        yield from model.lr_range(trainer, batch)
        yield from model.learns(trainer, batch)


def preflight(trainer: BaseTrainer) -> list[Finding]:
    """The cheap examinations; warnings and errors go to the log and to ``diagnosis.jsonl``, and nothing is changed."""
    findings: list[Finding] = []
    try:
        with trainer.without_trace():
            findings.extend(_cheap(trainer))
    except Exception as error:  # training fails likewise, and names step and utterances
        log.debug("preflight ended early: %s: %s", type(error).__name__, error)
    for finding in findings:
        if finding.level != "ok":
            level = logging.ERROR if finding.level == "error" else logging.WARNING
            log.log(level, "preflight: %s", "\n".join(finding.lines()))
    trainer.watch.note(trainer.step, [finding.diagnosis() for finding in findings if finding.level != "ok"])
    return findings


def _cheap(trainer: BaseTrainer) -> Iterator[Finding]:
    splits = {name: loader.split for name, loader in trainer.setup.loaders.items()}
    yield from data.apart(splits, TRAIN_SPLIT)
    yield from data.decodes(splits[TRAIN_SPLIT], name_unreadable=False)
    yield from data.transcripts_belong(splits[TRAIN_SPLIT])
    yield from model.dropout(trainer)
    batch = trainer.loader.sample(_N_TRIED)
    if (yield from model.features(batch, TRAIN_SPLIT)):
        yield from model.first_losses(trainer, batch)
        if trainer.setup.task is not None:
            yield from trainer.setup.task.examine(trainer, batch, cheap=True)
