"""What a task shows in the demo; its module is named in `hw_base.task_packages.DEMOS` and defines ``DEMO``."""

import html
import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_base import task_packages
from hw_base.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """What a visitor may ask for.

    Attributes:
        seconds: of a recording.
        characters: of a text.
    """

    seconds: float
    characters: int


class TaskDemo(ABC):
    """The checkpoints of a task in the browser, side by side below one input."""

    @abstractmethod
    def build(self, paths: Sequence[Path], device: str, limits: Limits) -> None:
        """Open the checkpoints and add their controls to the page that is being built, with gradio.

        What a visitor gives and cannot be used is answered by ``gradio.Error`` with the message of the `HwError`.
        """


def heading(path: Path) -> str:
    """The name of a checkpoint as HTML, for ``gradio.HTML``."""
    return f'<code style="overflow-wrap: anywhere">{html.escape(str(path))}</code>'


def demo_of(task: Any) -> TaskDemo:
    """The demo of a task.

    Raises:
        ConfigError: it has none.
    """
    if task not in task_packages.DEMOS:
        raise ConfigError(
            f"a checkpoint of the task {task!r} has no demo; those of {', '.join(task_packages.DEMOS)} have"
        )
    demo: TaskDemo = importlib.import_module(task_packages.DEMOS[task]).DEMO
    return demo
