"""What a task says of its grading; its module is named in `hw_base.task_packages.GRADING` and defines ``GRADING``."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from hw_base import task_packages
from hw_base.errors import ConfigError
from hw_base.grading.outcome import ExitCode, SubmissionError
from hw_base.grading.settings import Settings
from hw_base.registry import suggest

# A prediction: a text, or the path of a recording.
Prediction = str | Path


@dataclass(frozen=True)
class Item:
    """One utterance of the hidden data.

    Attributes:
        id: of the utterance.
        set: folder that it lies in, where the data have several; otherwise empty.
        text: what is said.
        audio: the recording.
        altered: a false reference that stands where copies of the references are taken from; a match proves copying.
    """

    id: str
    set: str
    text: str | None
    audio: Path | None
    altered: str | None = None


@dataclass
class Scores:
    """Predictions beside references.

    Attributes:
        metrics: the main figures by name, rates as fractions.
        details: more of each, for the report.
        rows: utterances, sorted by id.
        normalizer: name, version and hash of what texts went through; None where no texts are compared.
    """

    metrics: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    normalizer: dict[str, Any] | None = None


class TaskGrading(ABC):
    """Predicting and scoring of one task.

    Attributes:
        given: what a submission is given for each utterance.
        suffix: of a prediction that is a file.
    """

    given: ClassVar[Literal["audio", "text"]]
    suffix: ClassVar[str]

    def check(self, settings: Settings) -> None:
        """Refuse what the task cannot do, before the first submission is opened.

        Raises:
            ConfigError: naming the key of the grading config.
        """

    @abstractmethod
    def predict(self, checkpoint: Path, data: Path, output: Path) -> dict[str, Any]:
        """Inside the sandbox: make a prediction for every file of ``data/audio`` or ``data/transcriptions``.

        Args:
            checkpoint: of this project's format; its config is checked already.
            data: what is given.
            output: new folder for ``output.json`` or ``<id><suffix>``.

        Returns:
            Facts for the report: ``parameters`` and ``model``.
        """

    def convert(self, weights: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
        """A checkpoint of this project from the weights and the config of the older template.

        Raises:
            SubmissionError: names or shapes have no counterpart here.
        """
        raise SubmissionError(ExitCode.INVALID, "checkpoints of the older template are not read for this task")

    @abstractmethod
    def read(self, path: Path, decoder: str | None) -> Mapping[str, Prediction]:
        """Predictions by id, of an ``output.json`` or a folder of ``<id><suffix>``; runs outside the sandbox.

        Raises:
            DataError: they cannot be used.
        """

    @abstractmethod
    def score(self, items: list[Item], predictions: Mapping[str, Prediction], settings: Settings) -> Scores:
        """Figures over `items`; what is missing counts as empty, and is in the details as ``missing``."""

    @abstractmethod
    def form(self, prediction: Prediction, settings: Settings) -> str:
        """A form that two predictions share only where they are the same for all purposes; empty for nothing."""

    @abstractmethod
    def problems(self, item: Item, prediction: Prediction) -> list[str]:
        """Names of what makes a prediction unusable, such as ``absurd_length``; it then counts as missing."""

    def reference(self, item: Item, settings: Settings) -> str:
        """The form of a reference; empty where there is none."""
        source = item.text if self.given == "audio" else item.audio
        return "" if source is None else self.form(source, settings)


def grading_of(task: str) -> TaskGrading:
    """The grading of a task, by its name.

    Raises:
        ConfigError: there is no such task, or it cannot be graded.
    """
    if task not in task_packages.GRADING:
        hint = suggest(task, sorted(task_packages.GRADING))
        raise ConfigError(f"--task {task}: submissions of this task cannot be graded. {hint}")
    grading: TaskGrading = importlib.import_module(task_packages.GRADING[task]).GRADING
    return grading
