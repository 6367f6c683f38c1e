"""A synthesizer's checkpoint together with the data of its config."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hw_base import distributed, trained
from hw_base.data.split import Split
from hw_base.errors import ConfigError
from hw_base.runs import logs
from hw_base.runs.experiment import Experiment
from hw_base.runs.folder import best_checkpoint
from hw_tts.models.base import SynthesisModel
from hw_tts.tasks.synthesis import SynthesisTask


class OpenedSynthesizer:
    """What a checkpoint was trained on, and its model in evaluation mode.

    Args:
        path: checkpoint, or run folder.
        overrides: ``KEY=VALUE``, laid over its config.
        device: where the model computes, see `hw_base.distributed.choose_device`.

    Attributes:
        path: of the checkpoint.
        experiment: of its config.
        task: with text front end, features and speakers.
        model: with its weights.

    Raises:
        CheckpointError: missing, damaged, or not a checkpoint.
        ConfigError: its config is not accepted, or is not of synthesis.
    """

    def __init__(self, path: str | Path, overrides: Sequence[str], device: str) -> None:
        self.path = best_checkpoint(path)
        state = trained.read(self.path)
        logs.start()
        given = trained.Given(overrides=overrides)
        config = trained.config_of(state["config"], self.path, given)
        self.experiment = Experiment(config, distributed.choose_device(device), state, self.path)
        self.task = synthesis_task(self.experiment, self.path)
        model = self.experiment.model().eval()
        assert isinstance(model, SynthesisModel)
        self.model = model

    def split(self, name: str) -> Split:
        """A split of its config as it is evaluated, without utterances whose features cannot be had."""
        split = self.experiment.split(name, evaluation=True)
        split.leave_out(self.task.cache.fill(split))
        return split

    def batches_with(self, split: Split, wanted: Collection[str]) -> Iterator[dict[str, Any]]:
        """The batches that hold one of some utterances, on the model's device."""
        missing = set(wanted)
        for batch in self.experiment.loader(split):
            if missing.isdisjoint(batch["utterance_id"]):
                continue
            device = self.experiment.device
            yield {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
            missing -= set(batch["utterance_id"])
            if not missing:
                return


def synthesis_task(experiment: Experiment, source: str | Path) -> SynthesisTask:
    """The task of an experiment.

    Raises:
        ConfigError: it is not that of synthesis.
    """
    if not isinstance(experiment.task, SynthesisTask):
        raise ConfigError(
            f"{source}: the task {experiment.config.task!r} has no alignments of its own, 'tts' has; hw_tts.align "
            "makes them by a recognizer, of what -c or --audio names"
        )
    return experiment.task
