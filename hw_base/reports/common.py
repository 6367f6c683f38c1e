"""The sections that every task has: configs, curves, findings, how it was made, what the reader writes."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hw_base.reports.blocks import Cell, Code, Curve, Curves, Notes, Paragraph, Section, Table
from hw_base.reports.contract import Page
from hw_base.reports.language import Language
from hw_base.reports.record import Run

_LONGEST_VALUE = 300  # characters of a config's value
_MOST_POINTS, _ALL_POINTS = 2000, 60_000  # of a curve, of all curves


def overview(runs: Sequence[Run], say: Language) -> Section:
    """Each run in a line."""
    columns = [say(c) for c in ("run", "task", "model", "config", "last step", "best so far")]
    rows: list[list[Cell]] = []
    for run in runs:
        steps = [row["step"] for row in run.rows if isinstance(row.get("step"), int)]
        row = [run.name, run.task, kind_of(run.config.get("model")), str(run.config.get("name", ""))]
        rows.append([*row, max(steps, default=0), _best(run)])
    return Section(say("Overview"), [Table(columns, rows)])


def configs(runs: Sequence[Run], say: Language) -> Section:
    """What differs between the configs; of one run, what it was trained with."""
    title = say("Configs")
    flat = [dict(_flatten(run.config)) for run in runs]
    keys = sorted({key for one in flat for key in one if not key.startswith("about")})
    if len(runs) == 1:
        rows: list[list[Cell]] = [[key, _short(flat[0].get(key))] for key in keys]
        return Section(title, [Table([say("key"), runs[0].name], rows)])
    missing = object()
    differing = [key for key in keys if len({repr(one.get(key, missing)) for one in flat}) > 1]
    if not differing:
        return Section(title, [Paragraph(say("The configs are the same."))])
    rows = [[key, *(_short(one[key]) if key in one else None for one in flat)] for key in differing]
    about = say("{n} of {total} keys differ; a dash means that a config lacks the key.", n=len(rows), total=len(keys))
    return Section(title, [Paragraph(about), Table([say("key"), *(run.name for run in runs)], rows)])


def curves(runs: Sequence[Run], main_metrics: Sequence[str], say: Language) -> Section:
    """Two charts, each with its chooser."""
    count = sum(len(splits) for run in runs for splits in run.curves.values())
    most = max(2, min(_MOST_POINTS, _ALL_POINTS // max(count, 1)))
    found = []
    for run in runs:
        for metric, splits in run.curves.items():
            for split, (steps, values) in splits.items():
                kept = spread(len(steps), most)
                rounded = [float(f"{values[i]:.6g}") for i in kept]
                found.append(Curve(metric, run.name, split, [steps[i] for i in kept], rounded))
    if not found:
        return Section(say("Curves"), [Paragraph(say("Nothing was logged yet."))])
    metrics = dict.fromkeys(curve.metric for curve in found)
    wanted = ["loss", *main_metrics, "grad_norm", "lr", *metrics]
    first = list(dict.fromkeys(metric for metric in wanted if metric in metrics))[:2]
    return Section(say("Curves"), [Curves([run.name for run in runs], found, first)])


def findings(runs: Sequence[Run], say: Language) -> Section:
    """What was noticed while training."""
    rows: list[list[Cell]] = []
    for run in runs:
        for one in run.findings:
            causes = one.get("causes")
            causes = causes if isinstance(causes, list) else []
            evidence = one.get("evidence")
            evidence = ", ".join(f"{k} {_figure(v)}" for k, v in evidence.items()) if isinstance(evidence, dict) else ""
            what = str(one.get("sentence", one.get("name", "")))
            rows.append(
                [
                    run.name,
                    _short(one.get("step")),
                    what,
                    evidence,
                    "; ".join(map(str, causes)),
                    _short(one.get("advice")),
                ]
            )
    title = say("Findings of the diagnosis")
    if not rows:
        return Section(title, [Paragraph(say("Nothing was found, or the runs were not watched."))])
    columns = [say(c) for c in ("run", "step", "what", "evidence", "may be", "what to do")]
    return Section(title, [Table(columns, rows)])


def reproduction(runs: Sequence[Run], say: Language) -> Section:
    """Speed, hardware, seeds, commit and commands."""
    columns = [
        say(c) for c in ("run", "steps per second", "time, s", "seed", "precision", "machine", "versions", "commit")
    ]
    rows: list[list[Cell]] = []
    commands = []
    for run in runs:
        _, speeds = run.curves.get("steps_per_second", {}).get("train", ([], []))
        # A harmonic mean weighs each logged span by its time; spans have the same number of steps.
        speed = len(speeds) / sum(1 / s for s in speeds) if speeds and min(speeds) > 0 else None
        steps, _ = run.curves.get("loss", {}).get("train", ([], []))
        seconds = round(steps[-1] / speed) if speed and steps else None
        trainer = run.config.get("trainer")
        args = trainer.get("args") if isinstance(trainer, Mapping) else None
        amp = trainer.get("amp", (args or {}).get("amp")) if isinstance(trainer, Mapping) else None
        machine = ", ".join(str(run.machine[key]) for key in ("gpu", "cpu", "cores") if run.machine.get(key))
        versions = ", ".join(f"{key} {run.machine[key]}" for key in ("python", "torch") if run.machine.get(key))
        # Twelve digits are enough to tell commits apart; behind them may stand "(with changes)".
        commit = re.sub(r"^([0-9a-f]{12})[0-9a-f]+", r"\1", run.commit)
        rows.append([run.name, speed, seconds, _short(run.config.get("seed")), _short(amp), machine, versions, commit])
        commands += _commands(run)
    about = say("Time is that of the training steps, without evaluations.")
    return Section(
        say("Speed, hardware and reproduction"), [Table(columns, rows), Paragraph(about), Code("\n".join(commands))]
    )


def writing(say: Language) -> Section:
    """Where the student writes."""
    blocks: list[Paragraph | Notes] = [Paragraph(say("Click and write; then save the page from the browser."))]
    for heading in (
        "What was done and why",
        "What worked, what did not",
        "What the curves and examples show",
        "Conclusion",
    ):
        blocks.append(Notes(say(heading)))
    return Section(say("Discussion"), blocks)


def kind_of(section: Any) -> str:
    """The class that a section of a config names."""
    return str(section.get("type", "")) if isinstance(section, Mapping) else str(section or "")


def spread(count: int, most: int) -> list[int]:
    """Places in a list: the first, the last and some between.

    Args:
        count: length of the list.
        most: places at most, two or more.
    """
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def left_out(page: Page) -> list[Section]:
    """A word on media that found no room."""
    if not page.media.left_out:
        return []
    say = page.say
    text = say(
        "{n} sounds and pictures found no room in this page; they lie in the run folders.", n=page.media.left_out
    )
    return [Section(say("Left out"), [Paragraph(text)])]


def _best(run: Run) -> str:
    trainer = run.config.get("trainer")
    monitor = trainer.get("monitor") if isinstance(trainer, Mapping) else None
    if not isinstance(monitor, str) or " " not in monitor:
        return ""
    mode, _, name = monitor.partition(" ")
    split, _, metric = name.partition("/")
    steps, values = run.curves.get(metric, {}).get(split, ([], []))
    if not values:
        return ""
    best = min(values) if mode == "min" else max(values)
    return f"{name} {best:.4g} ({steps[values.index(best)]})"


def _commands(run: Run) -> list[str]:
    folder = shlex.quote(str(run.path))
    command = run.machine.get("command")
    lines = [f"# {run.name}".replace("\n", " ")]
    commit = run.commit.split(" ")[0]
    lines += [f"git checkout {shlex.quote(commit)}"] if commit else []
    if isinstance(command, list) and command:
        lines.append(shlex.join(["python", *map(str, command)]))
    else:
        lines.append(f"python train.py -c {folder}/config.json --run-dir NEW_FOLDER")
    return [*lines, f"python test.py -r {folder} -o {folder}/output.json", ""]


def _flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _flatten(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and value and any(isinstance(item, Mapping | list) for item in value):
        for index, item in enumerate(value):
            yield from _flatten(item, f"{key}.{index}")
    else:
        yield key, value


def _figure(value: Any) -> str:
    """A piece of evidence: four digits of a number, three entries of a list."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(_figure, value[:3])) + (", …" if len(value) > 3 else "")
    return _short(value)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
