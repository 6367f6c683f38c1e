"""What a report shows of runs of speech synthesis and vocoders."""

from collections.abc import Sequence
from pathlib import Path

from hw_base.reports.blocks import Block, Cell, Clip, Code, Example, Paragraph, Section, Stages, Table
from hw_base.reports.common import spread
from hw_base.reports.contract import Page, TaskReport
from hw_base.reports.language import Language
from hw_base.reports.record import Media, Output, Row, Run, finite
from hw_tts.evaluation import measured

_MOST_STAGES = 5
_SHOWN_METRICS = 6
_RECORDED = "recorded"


class TTSReport(TaskReport):
    """See `TaskReport`."""

    main_metrics = ("mcd", "mel", "log_mel_l1")

    def sections(self, runs: Sequence[Run], page: Page) -> list[Section]:
        """Figures of the tests, comparisons, speakers, stages of training, what ``test.py`` synthesized."""
        systems = [system for run in runs for system in measured.systems_of(run)]
        unmeasured = [run for run in runs if run.outputs and all(system.run is not run for system in systems)]
        return [
            _figures(runs, page.say),
            measured.comparisons(systems, page.say),
            _speakers(runs, page.say),
            _stages(runs, page),
            *(_ranked(systems, page) if systems else []),
            *([_tested(unmeasured, page)] if unmeasured or not systems else []),
        ]


REPORT = TTSReport()


def _test_values(run: Run) -> list[tuple[str, str, dict[str, float]]]:
    """Output file, split and its figures."""
    found = []
    for output in run.outputs:
        splits = output.about.get("splits")
        for split, values in splits.items() if isinstance(splits, dict) else ():
            if isinstance(values, dict):
                figures = {key: number for key, value in values.items() if (number := finite(value)) is not None}
                found.append((output.path.name, str(split), figures))
    return found


def _figures(runs: Sequence[Run], say: Language) -> Section:
    """One row for each run and test split."""
    entries = [(run, file, split, values) for run in runs for file, split, values in _test_values(run)]
    title = say("Metrics of the test splits")
    if not entries:
        missing = Paragraph(say("No output of test.py lies in the run folders. Make one:"))
        return Section(
            title, [missing, Code("\n".join(f"python test.py -r {run.path} -o {run.path}/output.json" for run in runs))]
        )
    names = list(dict.fromkeys(key for *_, values in entries for key in values if "/" not in key))
    rows: list[list[Cell]] = [
        [run.name, file, split, *(values.get(name) for name in names)] for run, file, split, values in entries
    ]
    about = say("Lower is better for distances and error rates.")
    return Section(title, [Paragraph(about), Table([say("run"), say("file"), say("split"), *names], rows)])


def _speakers(runs: Sequence[Run], say: Language) -> Section:
    """Metrics ``name/speaker``: of the tests, else of the last evaluation."""
    rows: list[tuple[str, str, str, dict[str, float]]] = []
    for run in runs:
        tested = _test_values(run)
        if not tested:
            splits = dict.fromkeys(split for curve in run.curves.values() for split in curve if split != "train")
            last = {s: {k: run.last(s, k) for k in run.curves if "/" in k} for s in splits}
            tested = [("", s, {k: v for k, v in values.items() if v is not None}) for s, values in last.items()]
        for _, split, values in tested:
            speakers = dict.fromkeys(key.partition("/")[2] for key in values if "/" in key)
            for speaker in speakers:
                own = {k.partition("/")[0]: v for k, v in values.items() if k.partition("/")[2] == speaker}
                rows.append((run.name, split, speaker, own))
    title = say("Per speaker")
    if not rows:
        return Section(title, [Paragraph(say("No metric is of a single speaker."))])
    names = list(dict.fromkeys(key for *_, values in rows for key in values))
    cells: list[list[Cell]] = [[*place, *(values.get(name) for name in names)] for *place, values in rows]
    return Section(title, [Table([say("run"), say("split"), say("speaker"), *names], cells)])


def _stages(runs: Sequence[Run], page: Page) -> Section:
    """The same utterances at several steps: recording once, then sound, pictures and metrics of each step."""
    say = page.say
    blocks: list[Block] = []
    for run in runs:
        groups: dict[tuple[str, str], list[Media]] = {}
        for medium in run.media:
            groups.setdefault((medium.split, medium.example), []).append(medium)
        for (split, example), media in list(groups.items())[: page.most]:
            recorded = next((m for m in media if m.what == _RECORDED), None)
            steps = sorted({m.step for m in media if m.what != _RECORDED})
            examples = []
            if recorded is not None:
                clip = page.media.sound(recorded.path, say("recording"))
                picture = page.media.spectrogram(recorded.path, say("spectrogram"))
                examples.append(Example(say("recording"), clips=[c for c in (clip, picture) if c is not None]))
            for step in (steps[i] for i in spread(len(steps), _MOST_STAGES)):
                clips = [_clip(m, page) for m in media if m.step == step and m.what != _RECORDED]
                details = _metrics_at(run, split, step)
                examples.append(Example(say("step {n}", n=step), details, clips=[c for c in clips if c is not None]))
            heading = say(
                "{run}, {split}, example {name}: {text}",
                run=run.name,
                split=split,
                name=example,
                text=_text_of(run, split, example),
            )
            blocks.append(Stages(heading, examples))
    return Section(say("Synthesis by stage of training"), blocks or [Paragraph(say("None."))])


def _clip(medium: Media, page: Page) -> Clip | None:
    make = page.media.sound if medium.path.suffix == ".wav" else page.media.picture
    return make(medium.path, page.say(medium.what))


def _text_of(run: Run, split: str, example: str) -> str:
    """What is said in the example, by the table of the same evaluation."""
    tables = [table for table in run.tables("synthesis") if table.get("split") == split]
    rows = tables[-1]["rows"] if tables else []
    columns = tables[-1].get("columns") if tables else []
    columns = [str(column) for column in columns] if isinstance(columns, list) else []
    name = example.rpartition("/")[2]
    for index, cells in enumerate(rows, start=1):
        row = dict(zip(columns, cells, strict=False)) if isinstance(cells, list) else {}
        # Older records number their examples.
        if name in (row.get("id"), str(index)):
            return ", ".join(str(row[key]) for key in ("id", "speaker", "text") if row.get(key) is not None)
    return example


def _metrics_at(run: Run, split: str, step: int) -> list[tuple[str, str]]:
    found = []
    for metric, splits in run.curves.items():
        steps, values = splits.get(split, ([], []))
        if step in steps and "/" not in metric:
            found.append((metric, f"{values[steps.index(step)]:.4g}"))
    # The losses come first in the record, the metrics behind them say more.
    return found[-_SHOWN_METRICS:]


def _tested(runs: Sequence[Run], page: Page) -> Section:
    """Some of what ``test.py`` synthesized, to hear and to see."""
    say = page.say
    blocks: list[Block] = []
    for run in runs:
        for output in run.outputs:
            made = [_spoken(output, row, page) for row in output.rows[: page.most]]
            examples = [example for example in made if example.clips]
            if examples:
                blocks.append(Stages(f"{run.name}, {output.path.name}", examples))
    return Section(say("Synthesis of the test splits"), blocks or [Paragraph(say("None."))])


def _spoken(output: Output, row: Row, page: Page, title: str | None = None) -> Example:
    """One utterance of an output, with its metrics."""
    say, name = page.say, row.get("audio_path")
    details = [(say(key), str(row[key])) for key in ("speaker", "text") if row.get(key) is not None]
    details += [(metric, f"{value:.4g}") for metric, value in measured.numbers(row, "metrics").items()]
    clips: list[Clip | None] = []
    if isinstance(name, str) and "\0" not in name:
        path = Path(name)
        if not path.is_file():  # the folder was moved since
            path = output.path.with_name(f"{output.path.stem}_wavs") / str(row.get("split", "")) / path.name
        clips = [page.media.sound(path, say("synthesized")), page.media.spectrogram(path, say("spectrogram"))]
    return Example(title or str(row["id"]), details, clips=[clip for clip in clips if clip is not None])


def _ranked(systems: Sequence[measured.System], page: Page) -> list[Section]:
    """The worst and best utterances of the first system of each split, as all systems say them."""
    say = page.say
    worst: list[Block] = []
    best: list[Block] = []
    for split in dict.fromkeys(system.split for system in systems):
        here = [system for system in systems if system.split == split]
        order = measured.ranked(here[0])
        ranking = Paragraph(say("Ranked by {metric}.", metric=measured.ranking(here[0])))
        bad = order[::-1][: page.most]
        good = [utterance for utterance in order if utterance not in bad][: page.most]
        for blocks, ids in ((worst, bad), (best, good)):
            blocks += [ranking] if ids else []
            for utterance in ids:
                examples = [_spoken(s.output, s.rows[utterance], page, s.name) for s in here if utterance in s.rows]
                blocks.append(Stages(f"{split}: {utterance}", examples))
    none: list[Block] = [Paragraph(say("None."))]
    return [Section(say("Worst utterances"), worst or none), Section(say("Best utterances"), best or none)]
