"""What a report shows of runs of speech recognition."""

from collections.abc import Callable, Sequence
from typing import Any

from hw_asr.evaluation import scoring
from hw_asr.evaluation.systems import System, systems_of
from hw_base.reports.blocks import Block, Cell, Clip, Code, Example, Intervals, Paragraph, Section, Stages, Table
from hw_base.reports.bootstrap import compare
from hw_base.reports.common import kind_of, spread
from hw_base.reports.contract import Page, TaskReport
from hw_base.reports.language import Language
from hw_base.reports.record import Run

_MOST_STAGES = 4
_MOST_CONFUSIONS = 10
_ALONE, _MOST_AUGMENTATIONS = "augmentations", 20
_TEST = "python test.py -r {run} -o {run}/output.json"
Pair = tuple[System, System]


class ASRReport(TaskReport):
    """See `TaskReport`."""

    main_metrics = ("wer", "cer")

    def sections(self, runs: Sequence[Run], page: Page) -> list[Section]:
        """Rates, comparisons, the proofs, utterances, speakers, augmentations."""
        say = page.say
        systems = [system for run in runs for system in systems_of(run)]
        return [
            _rates(runs, systems, say),
            _comparisons(systems, say),
            *_proofs(runs, systems, say),
            *_utterances(systems, page),
            _speakers(systems, say),
            _confusions(runs, page),
            _augmentations(runs, page),
            _progress(runs, page),
        ]


REPORT = ASRReport()


def _rates(runs: Sequence[Run], systems: Sequence[System], say: Language) -> Section:
    title = say("WER and CER by decoder and split")
    if not systems:
        return Section(title, [Paragraph(say("No output of test.py lies in the run folders. Make one:")), _tests(runs)])
    columns = [
        say(c) for c in ("run", "split", "decoder", "WER, %", "95 % interval", "CER, %", "95 % interval", "utterances")
    ]
    rows: list[list[Cell]] = []
    for system in systems:
        wer, cer = system.score.wer, system.score.cer
        place: list[Cell] = [system.run.name, system.split, system.decoder]
        figures: list[Cell] = [_percent(wer.corpus), _interval(wer), _percent(cer.corpus), _interval(cer)]
        rows.append([*place, *figures, len(system.score.ids)])
    points = []
    for system in systems:
        wer = system.score.wer
        points.append(
            (f"{system.name}, {system.split}", 100 * wer.corpus, 100 * wer.interval[0], 100 * wer.interval[1])
        )
    about = say(
        "Figures of the corpus: sum of edits over sum of reference units; intervals by bootstrap over utterances."
    )
    return Section(title, [Paragraph(about), Table(columns, rows), Intervals(say("WER, %"), points)])


def _interval(rate: scoring.Rate) -> str:
    return " to ".join(f"{100 * bound:.2f}" for bound in rate.interval)


def _percent(value: float) -> float:
    return round(100 * value, 2)


def _comparisons(systems: Sequence[System], say: Language) -> Section:
    """Each run with the first one that has the split, decoder by decoder; decoders of one run are in the proofs."""
    pairs = []
    for other in systems:
        for one in systems:
            if one.run is not other.run and (one.split, one.decoder) == (other.split, other.decoder):
                pairs.append((one, other))
                break
    runs = list(dict.fromkeys(system.run.name for system in systems))
    blocks = _compared([(a, b) for a, b in pairs if runs.index(a.run.name) < runs.index(b.run.name)], say)
    if not blocks:
        text = "Give a second run that was tested on the same split with the same decoder; decoders are compared below."
        blocks = [Paragraph(say(text))]
    return Section(say("Paired comparison of runs"), blocks)


def _compared(pairs: Sequence[Pair], say: Language) -> list[Block]:
    """WER in words, then both figures in a table."""
    blocks: list[Block] = []
    rows: list[list[Cell]] = []
    for one, other in pairs:
        ids = [i for i in one.score.ids if other.score.references.get(i) == one.score.references[i]]
        for figure in ("WER", "CER") if ids else ():
            result = compare(one.counts(ids, figure == "CER"), other.counts(ids, figure == "CER"))
            if figure == "WER":
                where = say("Split {split}, {n} utterances:", split=one.split, n=len(ids))
                blocks.append(Paragraph(f"{where} {result.words(one.name, other.name, figure, say)}", strong=True))
            values = [_percent(value) for value in (result.first, result.second, result.difference)]
            interval = " to ".join(f"{100 * bound:.2f}" for bound in result.interval)
            rows.append([one.split, figure, one.name, other.name, *values, interval, round(result.p_value, 4)])
    columns = ("split", "figure", "first", "second", "first, %", "second, %", "difference", "95 % interval", "p")
    return [*blocks, Table([say(column) for column in columns], rows)] if rows else []


def _proofs(runs: Sequence[Run], systems: Sequence[System], say: Language) -> list[Section]:
    """The claims of the course that a report has to support, each with its evidence or the way to it."""
    needs = {
        "beam": "Decode with a beam search beside the greedy decoder: name it in decoders, then",
        "lm": "Decode with the same beam search with and without a language model (its key lm), then",
        "bpe": "Give two runs that differ in text_encoder: characters and SentencePiece.",
    }
    beam = _pairs(systems, lambda a, b: a.run is b.run and a.is_greedy() and not b.is_greedy() and not b.has_lm())
    beam = beam or _pairs(systems, lambda a, b: a.run is b.run and a.is_greedy() and not b.is_greedy())
    with_lm = _pairs(systems, lambda a, b: a.run is b.run and not a.is_greedy() and not a.has_lm() and b.has_lm())
    units = _pairs(systems, lambda a, b: _characters(a.run) and not _characters(b.run) and a.decoder == b.decoder)
    blocks = {"beam": _compared(beam, say), "lm": _compared(with_lm, say), "bpe": _compared(units, say)}
    for key, need in needs.items():
        if not blocks[key]:
            blocks[key] = [Paragraph(say(need)), *([_tests(runs)] if key != "bpe" else [])]
    titles = {
        "beam": "Beam search against argmax",
        "lm": "A language model against none",
        "bpe": "BPE against characters",
    }
    return [Section(say(title), blocks[key]) for key, title in titles.items()]


def _pairs(systems: Sequence[System], holds: Callable[[System, System], bool]) -> list[Pair]:
    """Systems of one split and file for which it holds; of each second one, the first partner."""
    found: dict[int, Pair] = {}
    for other in systems:
        for one in systems:
            if one.split == other.split and one.file == other.file and holds(one, other):
                found.setdefault(id(other), (one, other))
    return list(found.values())


def _characters(run: Run) -> bool:
    return "entence" not in kind_of(run.config.get("text_encoder"))


def _tests(runs: Sequence[Run]) -> Code:
    return Code("\n".join(_TEST.format(run=run.path) for run in runs))


def _utterances(systems: Sequence[System], page: Page) -> list[Section]:
    """The worst and best utterances of the first run, as every decoder of every run has them."""
    say = page.say
    worst: list[Block] = []
    best: list[Block] = []
    for split in dict.fromkeys(system.split for system in systems):
        here = [system for system in systems if system.split == split]
        first = here[0]
        ids = first.score.worst(page.most)
        worst += [_example(here, i, page) for i in ids]
        ranked = sorted(first.score.ids, key=lambda i: (scoring.rate(first.edits(i)), -first.edits(i).references))
        best += [_example(here, i, page) for i in [i for i in ranked if i not in ids][: page.most]]
    none: list[Block] = [Paragraph(say("None."))]
    return [Section(say("Worst utterances"), worst or none), Section(say("Best utterances"), best or none)]


def _example(systems: Sequence[System], utterance: str, page: Page) -> Example:
    say, first = page.say, systems[0]
    alike: dict[str, list[System]] = {}
    for system in systems:
        if system.score.references.get(utterance) == first.score.references[utterance]:
            alike.setdefault(system.score.hypotheses[utterance], []).append(system)
    alignments = []
    for text, group in alike.items():
        wer = f"{100 * scoring.rate(group[0].edits(utterance)):.0f}"
        heading = say("{systems}: WER {wer} %", systems=", ".join(system.name for system in group), wer=wer)
        pairs = scoring.align(first.score.references[utterance].split(), text.split())
        alignments.append((heading, pairs or []))
    path = first.audio(utterance)
    made = [page.media.sound(path, say("recording")), page.media.spectrogram(path, say("spectrogram"))] if path else []
    details = [(say("split"), first.split)]
    speaker = first.rows[utterance].get("speaker")
    details += [(say("speaker"), str(speaker))] if speaker is not None else []
    return Example(utterance, details, alignments, [clip for clip in made if clip is not None])


def _speakers(systems: Sequence[System], say: Language) -> Section:
    rows: list[list[Cell]] = []
    for system in systems:
        groups: dict[str, list[str]] = {}
        for utterance in system.score.ids:
            speaker = system.rows[utterance].get("speaker")
            if speaker is not None:
                groups.setdefault(str(speaker), []).append(utterance)
        figures = []
        for speaker, ids in groups.items():
            words, characters = system.counts(ids), system.counts(ids, characters=True)
            figures.append((_rate(words), _rate(characters), speaker, len(ids)))
        for wer, cer, speaker, n in sorted(figures, reverse=True):
            rows.append([system.name, system.split, speaker, _percent(wer), _percent(cer), n])
    title = say("Per speaker")
    if not rows:
        return Section(title, [Paragraph(say("The outputs name no speakers."))])
    return Section(
        title, [Table([say(c) for c in ("system", "split", "speaker", "WER, %", "CER, %", "utterances")], rows)]
    )


def _rate(counts: Sequence[tuple[float, float]]) -> float:
    return sum(errors for errors, _ in counts) / max(1.0, sum(units for _, units in counts))


def _confusions(runs: Sequence[Run], page: Page) -> Section:
    """Which letters are confused with which others, at the last evaluation of each split."""
    say = page.say
    blocks: list[Block] = []
    for run in runs:
        pictures = {m.split: m for m in run.media if (m.example, m.what) == ("confusion", "matrix")}
        for split, medium in pictures.items():
            clip = page.media.picture(medium.path, say("Confusion of letters"))
            title = say("{run}, {split}, step {n}", run=run.name, split=split, n=medium.step)
            blocks.append(Example(title, clips=[clip] if clip is not None else []))
            tables = [t for t in run.tables("confusions") if (t.get("split"), t.get("step")) == (split, medium.step)]
            rows = [row for table in tables for row in table["rows"][:_MOST_CONFUSIONS] if _is_row(row)]
            if rows:
                columns = ("target", "prediction", "count", "fraction")
                blocks.append(Table([say(column) for column in columns], rows))
    if not blocks:
        return Section(
            say("Confusion of letters"), [Paragraph(say("No evaluation recorded which letters were confused."))]
        )
    about = say("The fraction of each target letter that was recognized as the letter of the column, in percent.")
    return Section(say("Confusion of letters"), [Paragraph(about), *blocks])


def _is_row(row: Any) -> bool:
    """Whether cells of a recorded table can be shown."""
    return isinstance(row, list) and all(isinstance(cell, str | int | float | None) for cell in row)


def _augmentations(runs: Sequence[Run], page: Page) -> Section:
    """What each run uses, and utterances before and after."""
    say = page.say
    blocks: list[Block] = []
    for run in runs:
        named = [kind_of(one) for one in run.config.get("augmentations") or []]
        listed = say("{run}: {n} augmentations: {names}.", run=run.name, n=len(named), names=", ".join(named) or "-")
        blocks.append(Paragraph(listed))
        by_step: dict[int, list[Clip]] = {}
        for medium in run.media:
            if medium.split == "train" and medium.what in ("original", "augmented", "augmentation"):
                caption = {
                    "original": say("before"),
                    "augmented": say("after"),
                    "augmentation": say("before and after"),
                }[medium.what]
                make = page.media.sound if medium.example == "audio" else page.media.picture
                if len(by_step) < page.most or medium.step in by_step:
                    clip = make(medium.path, caption)
                    by_step.setdefault(medium.step, []).extend([clip] if clip else [])
        examples = [Example(say("step {n}", n=step), clips=clips) for step, clips in by_step.items()]
        if examples:
            blocks.append(Stages(run.name, examples))
        alone = _each_alone(run, page)
        if alone.clips:
            blocks.append(alone)
        elif named:
            command = f"python -m hw_asr.show_augmentations -c {run.path}/config.json -o {run.path}/{_ALONE}"
            blocks += [Paragraph(say("Each augmentation alone, to hear and to see:")), Code(command)]
    return Section(say("Augmentations before and after"), blocks)


def _each_alone(run: Run, page: Page) -> Example:
    """What ``hw_asr.show_augmentations`` wrote into the run folder: an utterance, then each augmentation of it."""
    folder = (run.path / _ALONE).resolve()
    files = [path for path in sorted(folder.glob("[0-9][0-9]_*.wav")) if path.resolve().parent == folder]
    clips = [page.media.sound(path, path.stem[3:]) for path in files[:_MOST_AUGMENTATIONS]]
    picture = folder / "spectrograms.png"
    if files and picture.is_file() and picture.resolve().parent == folder:
        clips.append(page.media.picture(picture, page.say("before and after")))
    return Example(page.say("Each augmentation alone"), clips=[clip for clip in clips if clip is not None])


def _progress(runs: Sequence[Run], page: Page) -> Section:
    """Predictions by stage of training."""
    say = page.say
    blocks: list[Block] = []
    for run in runs:
        recorded = run.tables("predictions")
        tables = [recorded[i] for i in spread(len(recorded), _MOST_STAGES)]
        rows = [[table.get("step"), *row] for table in tables for row in table["rows"][: page.most] if _is_row(row)]
        columns = tables[-1].get("columns") if tables else None
        if rows and isinstance(columns, list):
            blocks += [Paragraph(run.name), Table([say(c) for c in ("step", *map(str, columns))], rows)]
    return Section(say("Predictions by stage of training"), blocks or [Paragraph(say("None."))])
