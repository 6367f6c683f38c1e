# PYTHON_ARGCOMPLETE_OK
"""WER and CER of predictions: ``python -m hw_asr.score REFERENCES HYPOTHESES``, or ``... score output.json``."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw_asr.evaluation import course, scoring
from hw_base.errors import ConfigError, DataError, HwError
from hw_base.metrics import Edits
from hw_base.runs.parser import Parser

_LISTED = 10
_LINE = 110
Pairs = Sequence[tuple[str | None, str | None]]


def main(argv: list[str] | None = None) -> int:
    """Entry point.

    Returns:
        0, or 2 for input that cannot be scored.
    """
    arguments = _parser().parse_args(argv)
    try:
        report, text = _run(arguments)
        if arguments.json is not None:
            _write(arguments.json, report)
    except HwError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader of our output went away: `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "python -m hw_asr.score", str(__doc__), ["DIR/transcriptions predictions", "output.json --json scores.json"]
    )
    parser.add_argument(
        "references", type=Path, help="folder of <id>.txt, or an output.json, then perhaps for both sides"
    )
    parser.add_argument("hypotheses", type=Path, nargs="?", help="folder of <id>.txt, or an output.json")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    parser.add_argument("--course", choices=sorted(course.TABLES), help="show the course's score table")
    parser.add_argument(
        "--decoder", help="of an output.json: argmax, beam_search, ... (default: the one the file names)"
    )
    parser.add_argument("--split", metavar="NAME", help="of an output.json with several, only this one")
    parser.add_argument(
        "--normalize",
        "--normalise",
        dest="normalize",
        choices=("none", "lower", "letters"),
        default="lower",
        help="both sides: white space only, lower case (default), or letters, digits and apostrophes only",
    )
    parser.add_argument("--worst", type=int, default=5, metavar="N", help="utterances to show aligned (default: 5)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")
    return parser


def _run(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The report for programs and the one for people."""
    if arguments.seed < 0 or arguments.worst < 0:
        raise ConfigError("--seed and --worst must not be negative")
    both = arguments.hypotheses or arguments.references
    if arguments.hypotheses is None and arguments.references.is_dir():
        raise DataError(f"{arguments.references}: a folder of references needs a second argument, the hypotheses")
    references = scoring.read_references(arguments.references, arguments.split)
    hypotheses, decoder = scoring.read_hypotheses(both, arguments.decoder, arguments.split)
    if arguments.hypotheses is None:  # rows without a transcript are no extra hypotheses
        hypotheses = {i: text for i, text in hypotheses.items() if i in references}
    score = scoring.score(references, hypotheses, arguments.normalize, arguments.seed)
    worst = score.worst(arguments.worst)
    report = {
        "format": 1,
        "references": str(arguments.references),
        "hypotheses": str(both),
        "decoder": decoder,
        "normalization": arguments.normalize,
        "n_utterances": len(score.ids),
        "wer": score.wer.as_dict(),
        "cer": score.cer.as_dict(),
        "missing": score.missing,
        "extra": score.extra,
        "worst": worst,
        "utterances": [_utterance(score, place) for place in range(len(score.ids))],
    }
    lines = _summary(score, decoder, arguments.normalize)
    if arguments.course:
        report["course"] = _course_report(arguments.course, score)
        lines += ["", *_course_lines(arguments.course, score)]
    for utterance_id in worst:
        lines += ["", *_worst_lines(score, utterance_id)]
    return report, "\n".join(lines)


def _utterance(score: scoring.Score, place: int) -> dict[str, Any]:
    utterance_id, wer, cer = score.ids[place], score.wer.utterances[place], score.cer.utterances[place]
    return {
        "id": utterance_id,
        "reference": score.references[utterance_id],
        "hypothesis": score.hypotheses[utterance_id],
        "wer": scoring.rate(wer),
        "cer": scoring.rate(cer),
        "words": wer._asdict(),
        "characters": cer._asdict(),
    }


def _summary(score: scoring.Score, decoder: str | None, normalization: str) -> list[str]:
    of = f", decoder {_printable(decoder)}" if decoder else ""
    spelling = "" if normalization == "letters" else "; punctuation counts (--normalize letters leaves it out)"
    counted = sum(edits.references > 0 for edits in score.wer.utterances)
    empty = len(score.ids) - counted
    with_words = f" ({counted} with words, {empty} without)" if empty else ""
    lines = [
        f"{len(score.ids)} utterances{with_words}{of}, normalization {normalization!r}{spelling}; rates in percent",
        "",
    ]
    lines.append(
        f"{'':6}{'corpus':>8}  {'95 % interval':<17}{'utterance mean':>14}{'sub':>9}{'del':>9}{'ins':>9}{'units':>10}"
    )
    for name, rate in (("WER", score.wer), ("CER", score.cer)):
        low, high = (f"{100 * bound:.2f}" for bound in rate.interval)
        edits = rate.edits
        counts = f"{edits.substitutions:>9}{edits.deletions:>9}{edits.insertions:>9}{edits.references:>10}"
        interval = f"{low} to {high}"
        lines.append(f"{name:6}{100 * rate.corpus:>8.2f}  {interval:<17}{100 * rate.utterance_mean:>14.2f}{counts}")
    lines += _listed("reference(s) without a hypothesis, which counts as empty", score.missing)
    lines += _listed("hypothesis(es) without a reference, not counted", score.extra)
    return lines


def _listed(what: str, ids: Sequence[str]) -> list[str]:
    if not ids:
        return []
    more = f" and {len(ids) - _LISTED} more" if len(ids) > _LISTED else ""
    return ["", f"{len(ids)} {what}: {', '.join(map(_printable, ids[:_LISTED]))}{more}"]


def _course_report(name: course.Course, score: scoring.Score) -> dict[str, Any]:
    rates = score.wer.corpus, score.cer.corpus
    return {"table": name} | {
        split: course.quality_score(name, split, *rates) for split in (course.CLEAN, course.OTHER)
    }


def _course_lines(name: course.Course, score: scoring.Score) -> list[str]:
    rates = score.wer.corpus, score.cer.corpus
    lines = [f"course table {name!r}", f"{'score':>6}  {'set':<12}{'at most':<12}here"]
    for threshold in course.TABLES[name]:
        limit = f"{threshold.metric.upper()} {threshold.percent:g}"
        verdict = "reached" if course.reached(threshold, *rates) else "-"
        lines.append(f"{threshold.score:>6.1f}  {threshold.split:<12}{limit:<12}{verdict}")
    report = _course_report(name, score)
    for split in (course.CLEAN, course.OTHER):
        lines.append(f"if these are all utterances of {split}: quality score {report[split]:g}")
    return lines


def _worst_lines(score: scoring.Score, utterance_id: str) -> list[str]:
    """An utterance aligned word by word, long ones in several blocks."""
    reference, hypothesis = score.references[utterance_id].split(), score.hypotheses[utterance_id].split()
    edits = score.wer.utterances[score.ids.index(utterance_id)]
    lines = [f"{_printable(utterance_id)}: WER {100 * scoring.rate(edits):.1f} ({_counts(edits)})"]
    pairs = scoring.align(reference, hypothesis)
    if pairs is None:
        return [*lines, f"  {len(reference)} and {len(hypothesis)} words are too many to be shown aligned"]
    return lines + aligned_lines(pairs)


def aligned_lines(pairs: Pairs) -> list[str]:
    """Reference above hypothesis, gaps as stars, and below them S, D or I under what is wrong."""
    columns: list[tuple[str, str, str]] = []
    for left, right in pairs:
        mark = "I" if left is None else "D" if right is None else "" if left == right else "S"
        above, below = ("*" if word is None else _printable(word) for word in (left, right))
        width = max(len(above), len(below))
        above, below = (width * "*" if word is None else text for word, text in ((left, above), (right, below)))
        columns.append((above.ljust(width), below.ljust(width), mark.ljust(width)))
    blocks: list[list[tuple[str, str, str]]] = [[]]
    for column in columns:
        if blocks[-1] and sum(len(one[0]) + 1 for one in blocks[-1]) + len(column[0]) > _LINE:
            blocks.append([])
        blocks[-1].append(column)
    lines = []
    for block in blocks:
        for index, head in enumerate(("  said: ", "  read: ", "        ")):
            lines.append((head + " ".join(column[index] for column in block)).rstrip())
    return lines


def _counts(edits: Edits) -> str:
    named = (("substitution", edits.substitutions), ("deletion", edits.deletions), ("insertion", edits.insertions))
    return ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in named if count)


def _printable(text: str) -> str:
    """The text without what could steer a terminal: predictions are untrusted."""
    return "".join(symbol if symbol.isprintable() else "\N{REPLACEMENT CHARACTER}" for symbol in text)


def _write(path: Path, report: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        path.write_text(content, encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"--json {path}: cannot be written: {error.strerror or error}") from None


if __name__ == "__main__":
    sys.exit(main())
