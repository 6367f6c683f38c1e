"""What a task says of its graphs; its module is named in `hw_base.task_packages.EXPORTS` and defines ``EXPORT``."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hw_base import task_packages
from hw_base.errors import ConfigError
from hw_base.trained import Trained

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Graph:
    """A network to be exported, and its description.

    Attributes:
        network: called with the inputs in their order; gives the outputs in theirs.
        axes: the inputs in their order: name -> its axes of any size, each with a name.
        outputs: names; what is rounded to whole numbers (lengths, durations) is compared for equality.
        cases: inputs by name, of different sizes; the first is the example that the graph is made from, of 2 or more
            wherever a size is free.
        expected: inputs of a case -> outputs of the model as this project runs it, by name.
        metadata: what a program needs besides the graph; written into the file as JSON.
        float_parts: modules of the network that keep 32 bits where weights are rounded to 8; None where rounding is
            of no use.
    """

    network: nn.Module
    axes: Mapping[str, Mapping[int, str]]
    outputs: Sequence[str]
    cases: Sequence[Tensors]
    expected: Callable[[Tensors], Tensors]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    float_parts: Sequence[str] | None = None


class TaskExport(ABC):
    """What a task adds to ``python -m hw_base.export``."""

    @abstractmethod
    def graph(self, opened: Trained, vocoder: Path | None) -> Graph:
        """The graph of a checkpoint.

        Args:
            opened: on the CPU; its model may be changed.
            vocoder: checkpoint, for synthesizers that make spectrograms.

        Raises:
            ConfigError: the model has no graph, or the vocoder does not go with it.
        """


def export_of(task: Any) -> TaskExport:
    """The part of a task.

    Raises:
        ConfigError: it has none.
    """
    if task not in task_packages.EXPORTS:
        known = ", ".join(task_packages.EXPORTS)
        raise ConfigError(f"a checkpoint of the task {task!r} cannot be exported; those of {known} can")
    part: TaskExport = importlib.import_module(task_packages.EXPORTS[task]).EXPORT
    return part
