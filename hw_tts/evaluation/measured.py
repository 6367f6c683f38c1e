"""What the runs of a report synthesized: metrics of single utterances, compared and ranked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hw_base.registry import METRICS
from hw_base.reports.blocks import Block, Cell, Paragraph, Section, Table
from hw_base.reports.bootstrap import compare
from hw_base.reports.common import kind_of
from hw_base.reports.language import Language
from hw_base.reports.record import Output, Run, finite

# Metrics whose comparison is put in words; the first that there is ranks the utterances.
SAID = ("cer", "wer", "mcd", "log_mel_l1", "mel", "stoi")
_MOST_SAID = 2


@dataclass(frozen=True)
class System:
    """One run's output of one split.

    Attributes:
        run: where it is from.
        output: the file.
        split: of the data.
        rows: of the output, by id.
    """

    run: Run
    output: Output
    split: str
    rows: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The run and, where it has several outputs, the file."""
        return f"{self.run.name} ({self.output.path.name})" if len(self.run.outputs) > 1 else self.run.name

    def metrics(self) -> list[str]:
        """Names of those that utterances have, in the order of the output."""
        return list(dict.fromkeys(name for row in self.rows.values() for name in numbers(row, "metrics")))

    def measured(self, metric: str) -> dict[str, tuple[float, float]]:
        """Id -> value and weight, of the utterances that the metric is defined for."""
        found = {}
        for utterance, row in self.rows.items():
            value, weight = numbers(row, "metrics").get(metric), numbers(row, "weights").get(metric, 1.0)
            if value is not None and weight > 0:
                found[utterance] = (value, weight)
        return found

    def higher_is_better(self, metric: str) -> bool:
        """What the metric's class says; of names that the config lacks, it is not."""
        sections = self.run.config.get("metrics")
        kind = kind_of(sections.get(metric)) if isinstance(sections, Mapping) else ""
        return kind in METRICS and METRICS[kind].best != 0.0


def numbers(row: Mapping[str, Any], key: str) -> dict[str, float]:
    """The finite numbers below a key of an output's row, by name."""
    values = row.get(key)
    if not isinstance(values, Mapping):
        return {}
    return {str(name): number for name, value in values.items() if (number := finite(value)) is not None}


def systems_of(run: Run) -> list[System]:
    """Outputs whose utterances have metrics, split by split."""
    found = []
    for output in run.outputs:
        for split in dict.fromkeys(str(row.get("split", "")) for row in output.rows):
            rows = {str(row["id"]): row for row in output.rows if str(row.get("split", "")) == split}
            system = System(run, output, split, rows)
            if system.metrics():
                found.append(system)
    return found


def ranking(system: System) -> str:
    """The metric that utterances are ranked by."""
    names = system.metrics()
    return next((name for name in SAID if name in names), names[0])


def ranked(system: System) -> list[str]:
    """Utterances, the best first."""
    metric = ranking(system)
    measured = system.measured(metric)
    sign = -1.0 if system.higher_is_better(metric) else 1.0
    return sorted(measured, key=lambda utterance: (sign * measured[utterance][0], utterance))


def comparisons(systems: Sequence[System], say: Language) -> Section:
    """Each run with the first one that has the split, metric by metric, over the utterances of both."""
    blocks: list[Block] = []
    rows: list[list[Cell]] = []
    for i, other in enumerate(systems):
        one = next((s for s in systems[:i] if s.split == other.split and s.run is not other.run), None)
        if one is None:
            continue
        names = [name for name in one.metrics() if name in other.metrics()]
        compared = [name for name in SAID if name in names][:_MOST_SAID] or names[:_MOST_SAID]
        for name in names:
            left, right = one.measured(name), other.measured(name)
            ids = [utterance for utterance in left if utterance in right]
            if not ids:
                continue
            first, second = ([(v * w, w) for v, w in (side[u] for u in ids)] for side in (left, right))
            result = compare(first, second)
            if name in compared:
                where = say("Split {split}, {n} utterances:", split=one.split, n=len(ids))
                words = result.words(one.name, other.name, name, say, rate=False, higher=one.higher_is_better(name))
                blocks.append(Paragraph(f"{where} {words}", strong=True))
            interval = " to ".join(f"{bound:.4g}" for bound in result.interval)
            values: list[Cell] = [result.first, result.second, result.difference, interval, round(result.p_value, 4)]
            rows.append([one.split, name, one.name, other.name, *values, len(ids)])
    title = say("Paired comparison of runs")
    if not rows:
        text = "Give a second run that was tested on the same split; both outputs need metrics of single utterances."
        return Section(title, [Paragraph(say(text))])
    columns = ("split", "metric", "first", "second", "first one's", "second one's", "difference", "95 % interval", "p")
    heads = [say(column) for column in (*columns, "utterances")]
    return Section(title, [*blocks, Table(heads, rows)])
