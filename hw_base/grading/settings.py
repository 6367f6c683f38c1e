"""A grading config: how predictions are made, what is checked, and what they are worth."""

import hashlib
import json
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, ValidationError, model_validator

from hw_base.config import read as config_files
from hw_base.errors import ConfigError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Step(_Strict):
    """A row of a score table.

    Attributes:
        score: points.
        metric: name of a figure, for example ``wer``.
        at_most, at_least: the bound, one of the two; rates are fractions.
        set: folder of the data that it is about; None is everything.
    """

    score: float
    metric: str
    at_most: float | None = None
    at_least: float | None = None
    set: str | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> "Step":
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("give at_most or at_least, one of the two")
        return self


class Checks(_Strict):
    """How many clips each check adds to what a submission that is run gets; 0 leaves the check out.

    Attributes:
        silence, noise: clips in which nothing is said.
        twins: clips that come a second time, under another name.
        fresh: sentences spoken by the embedded corpus for this grading alone.
        repeat: clips that a second run must answer alike.
    """

    silence: NonNegativeInt = 1
    noise: NonNegativeInt = 1
    twins: NonNegativeInt = 2
    fresh: NonNegativeInt = 4
    repeat: NonNegativeInt = 2


class Settings(_Strict):
    """The whole config.

    Attributes:
        task: ``asr`` or ``tts``.
        about: for readers.
        command: runs a submission's own code in a copy of its folder; ``{data}`` is the folder with ``audio/`` (or
            ``transcriptions/``), ``{work}`` a writable one. None grades checkpoints and predictions alone.
        output: what the command writes, relative to the submission: a file ``.json``, or a folder.
        interpreter: the Python of the command; None is the grader's.
        decoder: of a checkpoint or an ``output.json``; None is its own choice.
        normalizer: what both texts go through before they are compared.
        recognizer: checkpoint that listens to synthesized speech.
        metrics: of synthesis; None is all that can be computed.
        table: what figures are worth.
        interpolate: between two rows of one metric and set, in a straight line.
        combine: the best of all metrics and sets, or the sum of each one's best.
        floor: points of a submission that reaches no row.
        max_score: points at most.
        threshold: points below which the exit code is 1.
        adjustments: name -> points that staff may give or take by ``--adjustments``, at most this many.
        checks: see `Checks`.
    """

    task: str
    about: list[str] = []
    command: Annotated[list[str], Field(min_length=1)] | None = None
    output: str = "output.json"
    interpreter: str | None = None
    decoder: str | None = None
    normalizer: str = "lower"
    recognizer: str | None = None
    metrics: list[str] | None = None
    table: list[Step] = []
    interpolate: bool = False
    combine: Literal["best", "sum"] = "best"
    floor: float = 0.0
    max_score: PositiveFloat = 100.0
    threshold: float | None = None
    adjustments: dict[str, float] = {}
    checks: Checks = Checks()

    @model_validator(mode="after")
    def _output_stays_inside(self) -> "Settings":
        path = PurePosixPath(self.output)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError("output must be a path inside the submission's folder")
        return self

    def digest(self) -> str:
        """SHA-256 of everything that counts."""
        content = self.model_dump(mode="json", exclude={"about"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# Where no config is given: the part of the words, or of the distortion between useless and very good, that is right.
_DEFAULT_TABLES: dict[str, list[dict[str, Any]]] = {
    "asr": [{"score": 0, "metric": "wer", "at_most": 1.0}, {"score": 100, "metric": "wer", "at_most": 0.0}],
    "tts": [{"score": 0, "metric": "mcd", "at_most": 14.0}, {"score": 100, "metric": "mcd", "at_most": 4.0}],
}


def load(path: Path | None, task: str) -> Settings:
    """The config in a file, or the default of a task.

    Raises:
        ConfigError: it cannot be read, or is for another task; every key that is wrong has a line.
    """
    raw = config_files.read(path) if path is not None else {"table": _DEFAULT_TABLES.get(task, []), "interpolate": True}
    try:
        settings = Settings.model_validate({"task": task, **raw})
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, e['loc'])) or 'config'}: {e['msg']}" for e in error.errors()]
        raise ConfigError("\n".join(lines)) from None
    if settings.task != task:
        raise ConfigError(f"{path}: task: expected {task!r} as on the command line, found {settings.task!r}")
    return settings


def points(settings: Settings, figures: dict[str, dict[str, float]]) -> tuple[float, list[dict[str, Any]]]:
    """What figures are worth.

    Args:
        figures: set -> metric -> value; the set ``""`` is everything.

    Returns:
        The points, before adjustments; and the table with what was found and whether it is reached.
    """
    rows, best = [], []
    groups = dict.fromkeys((step.metric, step.set or "", step.at_most is None) for step in settings.table)
    for metric, name, rising in groups:
        value = figures.get(name, {}).get(metric)
        steps = [s for s in settings.table if (s.metric, s.set or "", s.at_most is None) == (metric, name, rising)]
        ladder = sorted((_bound(s) * (1 if rising else -1), s.score) for s in steps)
        position = None if value is None else round(value * (1 if rising else -1), 9)
        if position is not None:
            score = _on_ladder(ladder, position, settings.interpolate)
            best += [] if score is None else [score]
        for step in steps:
            reached = position is not None and position >= _bound(step) * (1 if rising else -1)
            rows.append({**step.model_dump(exclude_none=True), "found": value, "reached": reached})
    total = (max(best) if settings.combine == "best" else sum(best)) if best else settings.floor
    return min(settings.max_score, max(settings.floor, total)), rows


def _bound(step: Step) -> float:
    bound = step.at_most if step.at_most is not None else step.at_least
    assert bound is not None
    return bound


def _on_ladder(ladder: list[tuple[float, float]], position: float, interpolate: bool) -> float | None:
    """The score at a position, where more is better; None below the first rung."""
    reached = [rung for rung in ladder if rung[0] <= position]
    if not reached:
        return None
    low = reached[-1]
    above = [rung for rung in ladder if rung[0] > position]
    if not interpolate or not above:
        return max(score for _, score in reached)
    high = above[0]
    return low[1] + (high[1] - low[1]) * (position - low[0]) / (high[0] - low[0])
