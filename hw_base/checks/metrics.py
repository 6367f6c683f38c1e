"""What every metric keeps to; metrics of other inputs than texts are declared by their task."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hw_base.checks.contract import Candidate, Contract, NotClaimedError, Outcome, expect
from hw_base.checks.table import declare
from hw_base.metrics import BaseMetric, EditRate

REFERENCES = ["the cat sat on the mat", "yes", "a b", "one two three four", "hello world"]
HYPOTHESES = ["the cat sat on mat", "yes", "a c d", "one two three", "hello hello world"]


@dataclass(frozen=True)
class MetricInputs:
    """A metric and what it can be given.

    Attributes:
        make: a new accumulator.
        different: arguments of `update`, of outputs that differ from their references.
        perfect: of outputs equal to their references.
        joined: the arguments of several updates as those of one; None where `update` takes one output at a time.
    """

    make: Callable[[], BaseMetric]
    different: Sequence[tuple[Any, ...]]
    perfect: Sequence[tuple[Any, ...]]
    joined: Callable[[Sequence[tuple[Any, ...]]], tuple[Any, ...]] | None = None


METRIC: Contract[MetricInputs] = Contract("metric")
EDIT_RATE: Contract[Candidate] = Contract("error rate")


def check_error_rate(candidate: Candidate) -> list[Outcome]:
    """All properties of a rate of edits over a corpus."""

    def join(updates: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
        return [one[0][0] for one in updates], [one[1][0] for one in updates]

    pairs = zip(REFERENCES, HYPOTHESES, strict=True)
    inputs = MetricInputs(candidate.build, [([r], [h]) for r, h in pairs], [([r], [r]) for r in REFERENCES], join)
    return METRIC.check(inputs) + EDIT_RATE.check(candidate)


def _value(metric: BaseMetric, updates: Sequence[tuple[Any, ...]]) -> float:
    for update in updates:
        metric.update(*update)
    return metric.compute()


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(a) and math.isnan(b))


@METRIC.property("the two sides are prepared differently, or the best value is declared wrong (BaseMetric.best)")
def identity_gives_the_best_value(inputs: MetricInputs) -> None:
    metric = inputs.make()
    if metric.best is None:
        raise NotClaimedError("it compares with no reference (best is None)")
    found = _value(metric, inputs.perfect)
    expect(math.isclose(found, metric.best, abs_tol=1e-3), f"{metric.best:g} for outputs equal to references", found)
    other = _value(inputs.make(), inputs.different)
    expect(abs(other - metric.best) > abs(found - metric.best), f"worse than {found:.4g} for other outputs", other)


@METRIC.property("a mean of the batches' means, or something is computed from the last batch alone")
def the_figure_does_not_depend_on_the_batches(inputs: MetricInputs) -> None:
    one_by_one = _value(inputs.make(), inputs.different)
    backwards = _value(inputs.make(), inputs.different[::-1])
    expect(_same(one_by_one, backwards), f"{one_by_one:.6g} in any order", f"{backwards:.6g} in reverse")
    if inputs.joined is not None:
        at_once = _value(inputs.make(), [inputs.joined(inputs.different)])
        expect(_same(one_by_one, at_once), f"{one_by_one:.6g}, as utterance by utterance", f"{at_once:.6g} at once")


@METRIC.property("`totals` is not all that compute uses, so that several processes cannot add theirs")
def totals_of_processes_add_up(inputs: MetricInputs) -> None:
    whole = _value(inputs.make(), inputs.different)
    parts = [inputs.make(), inputs.make()]
    for i, update in enumerate(inputs.different):
        parts[i % 2].update(*update)
    merged = copy.deepcopy(parts[0])
    merged.totals = parts[0].totals + parts[1].totals
    expect(_same(merged.compute(), whole), f"{whole:.6g} from added totals", f"{merged.compute():.6g}")


@METRIC.property("reset leaves something, so that the next evaluation begins with the last one's sums")
def reset_forgets_everything(inputs: MetricInputs) -> None:
    metric = inputs.make()
    _value(metric, inputs.perfect)
    metric.reset()
    expected = _value(inputs.make(), inputs.different)
    found = _value(metric, inputs.different)
    expect(_same(found, expected), f"{expected:.6g} after a reset", f"{found:.6g}")


@EDIT_RATE.property("the mean of the utterances' rates instead of all edits over all reference units")
def the_rate_is_that_of_the_corpus(candidate: Candidate) -> None:
    metric: EditRate = candidate.build()
    edits = length = 0
    for reference, hypothesis in zip(REFERENCES, HYPOTHESES, strict=True):
        left, right = metric.units(reference), metric.units(hypothesis)
        edits, length = edits + _levenshtein(left, right), length + len(left)
    found = _value(candidate.build(), [(REFERENCES, HYPOTHESES)])
    expect(_same(found, edits / length), f"{edits} edits / {length} units = {edits / length:.6f}", f"{found:.6f}")


@EDIT_RATE.property("an empty reference divides by zero, or one that is absent is counted as empty")
def empty_and_absent_references_are_no_problem(candidate: Candidate) -> None:
    expect(_value(candidate.build(), []) == 0.0, "0 where nothing was added", _value(candidate.build(), []))
    found = _value(candidate.build(), [(["", "a b"], ["", "a b"])])
    expect(found == 0.0, "0 for empty texts that agree", found)
    absent = _value(candidate.build(), [([None, "a b"], ["x y z", "a b"])])
    expect(absent == 0.0, "a reference that is None to be left out", f"a rate of {absent:.4g}")


def _levenshtein(left: Sequence[str], right: Sequence[str]) -> int:
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        previous, row = row, [i]
        for j, b in enumerate(right, start=1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (a != b)))
    return row[-1]


declare("metrics", check_error_rate, EditRate)
