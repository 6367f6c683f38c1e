"""What a task adds to a report; its module is named in `hw_base.task_packages.REPORTS` and defines ``REPORT``."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from hw_base import task_packages
from hw_base.reports.blocks import Section
from hw_base.reports.language import Language
from hw_base.reports.media import MediaStore
from hw_base.reports.record import Run


@dataclass(frozen=True)
class Page:
    """What sections are made with.

    Attributes:
        media: packs sounds and pictures.
        say: translates sentences.
        most: utterances to show in each list.
    """

    media: MediaStore
    say: Language
    most: int = 3


class TaskReport(ABC):
    """The sections of one task. Everything comes from the run folders; no checkpoint is opened.

    Attributes:
        main_metrics: what the second chart shows at first: the first of these that there is.
    """

    main_metrics: Sequence[str] = ()

    @abstractmethod
    def sections(self, runs: Sequence[Run], page: Page) -> list[Section]:
        """The sections, in order; one without evidence says how to get it.

        Args:
            runs: of this task, at least one.
            page: what they are made with.
        """


def report_of(task: str) -> TaskReport | None:
    """The task's part of a report; None for a task that has none."""
    if task not in task_packages.REPORTS:
        return None
    report: TaskReport = importlib.import_module(task_packages.REPORTS[task]).REPORT
    return report
