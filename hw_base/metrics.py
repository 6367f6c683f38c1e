"""Figures of a whole corpus, accumulated over batches and processes: sums first, one division at the end."""

import copy
import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from hw_base import distributed
from hw_base.errors import ConfigError, MissingPackageError

# Pairs of units from which on two texts are compared by a compiled loop.
_LARGE = 10**8


class BaseMetric(ABC):
    """A figure computed from additive sums.

    Attributes:
        sum_names: what the sums are.
        totals (Tensor): the sums, (len(sum_names),), float64, on the CPU; processes add theirs and compute from that.
        best: the figure of outputs equal to their references; None where it compares with no reference.
        weight_name: the sum that says how much an utterance counts for in the figure; None is as much as any other.
    """

    sum_names: ClassVar[tuple[str, ...]]
    best: ClassVar[float | None] = 0.0
    weight_name: ClassVar[str | None] = None

    def __init__(self) -> None:
        self.totals: Tensor = torch.zeros(len(self.sum_names), dtype=torch.float64)

    @abstractmethod
    def update(self, *args: Any, **kwargs: Any) -> None:
        """Add a batch."""

    @abstractmethod
    def compute(self) -> float:
        """The figure over everything since the last reset."""

    def details(self) -> dict[str, float]:
        """The sums by name."""
        return dict(zip(self.sum_names, self.totals.tolist(), strict=True))

    def reset(self) -> None:
        """Forget everything."""
        self.totals = torch.zeros_like(self.totals)


class Measured(NamedTuple):
    """The figure of a single utterance.

    Attributes:
        value: of the utterance alone.
        weight: how much it counts for in the figure of the corpus.
    """

    value: float
    weight: float


Metric = TypeVar("Metric", bound=BaseMetric)


class MetricBag(Generic[Metric]):
    """Every metric of a config for every group that a task counts apart: decoders, speakers.

    Args:
        metrics: prototypes, by name; each group gets its own copies.
        groups: their names; ``""`` is everything.
        joint: stands between the names of metric and group, ``wer_argmax``, ``mcd/NAME``; ``""`` adds nothing.

    Raises:
        ConfigError: a metric's constructor did not call the base class's, so that it has no totals.
    """

    def __init__(self, metrics: Mapping[str, Metric], groups: Iterable[str] = ("",), joint: str = "/") -> None:
        for name, metric in metrics.items():
            try:
                metric.reset()
            except AttributeError as error:
                kind = type(metric).__name__
                fault = f"{kind} has no totals; its __init__ must call super().__init__()"
                raise ConfigError(f"metrics.{name}: {fault}") from error
        self._metrics = {(name, group): copy.deepcopy(m) for group in groups for name, m in metrics.items()}
        self._alone = {name: copy.deepcopy(m) for name, m in metrics.items()}
        self._joint = joint

    def update(
        self, *values: Any, groups: Collection[str] = ("",), wanted: Callable[[Metric], bool] | None = None
    ) -> None:
        """Add what the metrics take.

        Args:
            values: as the metrics' own `update` takes them.
            groups: to which they belong.
            wanted: which metrics are given them; None is all.
        """
        for (_, group), metric in self._metrics.items():
            if group in groups and (wanted is None or wanted(metric)):
                metric.update(*values)

    def update_one(
        self, *values: Any, groups: Collection[str] = ("",), wanted: Callable[[Metric], bool] | None = None
    ) -> dict[str, Measured]:
        """Add one utterance, which each metric measures once for all groups; the arguments are those of `update`.

        Returns:
            dict: metric -> what it is of this utterance alone; without those that are not defined for it.
        """
        found = {}
        for name, metric in self._alone.items():
            if wanted is not None and not wanted(metric):
                continue
            metric.reset()
            metric.update(*values)
            sums = metric.details()
            for group in groups:
                if (name, group) in self._metrics:
                    self._metrics[name, group].totals += metric.totals
            weight = sums.get(metric.weight_name, 1.0) if metric.weight_name is not None else 1.0
            if weight > 0 and math.isfinite(value := metric.compute()):
                found[name] = Measured(value, weight)
        return found

    def any(self, wanted: Callable[[Metric], bool]) -> bool:
        """Whether there is such a metric."""
        return any(map(wanted, self._metrics.values()))

    def compute(self) -> dict[str, float]:
        """The values over all processes, by name; starts anew."""
        values: dict[str, float] = {}
        for (name, group), metric in self._metrics.items():
            metric.totals = distributed.sum_over_processes(metric.totals)
            values[f"{name}{self._joint}{group}" if group else name] = metric.compute()
            metric.reset()
        return values


class Edits(NamedTuple):
    """What turns a reference into a hypothesis with the fewest edits; among those ways, one with the most matches.

    Attributes:
        substitutions: units replaced.
        deletions: units of the reference that the hypothesis lacks.
        insertions: units of the hypothesis that the reference lacks.
        references: units of the reference.
    """

    substitutions: int
    deletions: int
    insertions: int
    references: int

    @property
    def distance(self) -> int:
        """Levenshtein distance."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def correct(self) -> int:
        """Matched units."""
        return self.references - self.substitutions - self.deletions


def count_edits(reference: Sequence[str], hypothesis: Sequence[str]) -> Edits:
    """Compare two sequences of units (words, characters).

    One weighted Levenshtein distance finds everything: an insertion or deletion costs K and a substitution K + 1, where
    K is more than all substitutions there can be, so the total is K * distance + substitutions.

    Raises:
        MissingPackageError: rapidfuzz is not installed.
    """
    try:
        from rapidfuzz.distance import Levenshtein
    except ImportError as error:
        raise MissingPackageError("an error rate", "rapidfuzz") from error
    units: dict[str, int] = {}  # numbers, because equal hashes of texts would count as equal texts
    left = [units.setdefault(unit, len(units)) for unit in reference]
    right = [units.setdefault(unit, len(units)) for unit in hypothesis]
    cost = min(len(left), len(right)) + 1
    if len(left) * len(right) > _LARGE and importlib.util.find_spec("numba") is not None:
        from hw_base.texts.long_edits import weighted_distance

        weighted = weighted_distance(np.array(left), np.array(right), Levenshtein.distance(left, right))
    else:
        weighted = Levenshtein.distance(left, right, weights=(cost, cost, cost + 1))
    distance, substitutions = divmod(weighted, cost)
    # Insertions + deletions and insertions - deletions are both known now.
    gaps, surplus = distance - substitutions, len(right) - len(left)
    return Edits(substitutions, (gaps - surplus) // 2, (gaps + surplus) // 2, len(reference))


class EditRate(BaseMetric):
    """Sum of edits over sum of reference units, of a whole corpus.

    It may exceed 1. An empty reference adds its insertions to the edits. Where all references are empty the rate is the
    number of insertions (a division by 1), so 0 for empty hypotheses.
    """

    sum_names = ("substitutions", "deletions", "insertions", "references", "correct")
    weight_name = "references"

    @abstractmethod
    def units(self, text: str) -> Sequence[str]:
        """What a text is counted in."""

    def update(self, references: Sequence[str | None], hypotheses: Sequence[str]) -> None:
        """Add utterances.

        Args:
            references: normalized transcripts; None where there is none, which is left out.
            hypotheses: as many texts.
        """
        for reference, hypothesis in zip(references, hypotheses, strict=True):
            if reference is not None:
                edits = count_edits(self.units(reference), self.units(hypothesis))
                self.totals += torch.tensor([*edits, edits.correct], dtype=torch.float64)

    def compute(self) -> float:
        """The rate; 0 where nothing was added."""
        substitutions, deletions, insertions, references, _ = self.totals.tolist()
        return float((substitutions + deletions + insertions) / max(references, 1.0))
