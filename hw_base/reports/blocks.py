"""What a report consists of: sections of blocks, which the templates show as HTML or Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

Cell = str | int | float | None
# Word pairs of an alignment; None is a gap.
Pairs = Sequence[tuple[str | None, str | None]]


@dataclass(frozen=True)
class Paragraph:
    """A few sentences.

    Attributes:
        text: plain.
        strong: whether it is the result of its section.
    """

    kind: ClassVar[str] = "paragraph"
    text: str
    strong: bool = False


@dataclass(frozen=True)
class Code:
    """Commands to copy."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Notes:
    """A place where the reader writes; in HTML it can be edited and is kept when the page is saved."""

    kind: ClassVar[str] = "notes"
    text: str


@dataclass(frozen=True)
class Table:
    """Rows under named columns; numbers are shown with four significant digits."""

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Curve:
    """Values of a metric against steps, of one run and split."""

    metric: str
    run: str
    split: str
    steps: Sequence[int]
    values: Sequence[float]


@dataclass(frozen=True)
class Curves:
    """Charts whose metric the reader chooses.

    Attributes:
        runs: their names, in order; each has its color.
        curves: in the order of their runs.
        first: the metrics of the charts at the beginning, one chart each.
    """

    kind: ClassVar[str] = "curves"
    runs: Sequence[str]
    curves: Sequence[Curve]
    first: Sequence[str]

    def metrics(self) -> list[str]:
        """All that can be chosen."""
        return list(dict.fromkeys(curve.metric for curve in self.curves))

    def data(self) -> dict[str, Any]:
        """For the script of the page."""
        by_metric: dict[str, list[dict[str, Any]]] = {}
        for curve in self.curves:
            entry = {"run": curve.run, "split": curve.split, "x": curve.steps, "y": curve.values}
            by_metric.setdefault(curve.metric, []).append(entry)
        return {"runs": self.runs, "curves": by_metric}


@dataclass(frozen=True)
class Intervals:
    """Values with their intervals, as points with bars.

    Attributes:
        title: of the axis.
        points: name, value, low, high.
    """

    kind: ClassVar[str] = "intervals"
    title: str
    points: Sequence[tuple[str, float, float, float]]


@dataclass(frozen=True)
class Clip:
    """An embedded file.

    Attributes:
        kind: ``audio`` or ``picture``.
        caption: what it is.
        mime: of the content.
        content: the bytes; None where the page has no room for them.
    """

    kind: str
    caption: str
    mime: str
    content: bytes | None


@dataclass(frozen=True)
class Example:
    """One utterance: what it is, word by word, to hear and to see.

    Attributes:
        title: its id.
        details: key and value.
        alignments: heading and word pairs.
        clips: sounds and pictures.
    """

    kind: ClassVar[str] = "example"
    title: str
    details: Sequence[tuple[str, str]] = ()
    alignments: Sequence[tuple[str, Pairs]] = ()
    clips: Sequence[Clip] = ()


@dataclass(frozen=True)
class Stages:
    """Examples side by side, for example the stages of training.

    Attributes:
        title: what they have in common.
        examples: in order.
    """

    kind: ClassVar[str] = "stages"
    title: str
    examples: Sequence[Example]


Block = Paragraph | Code | Notes | Table | Curves | Intervals | Example | Stages


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it."""

    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


def shown(value: Any) -> str:
    """A cell as text."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
