"""Grading one submission: open, predict in the sandbox, score, check, report."""

import contextlib
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hw_base.errors import DataError, HwError
from hw_base.files.download import sha256_of
from hw_base.grading import checks, prompts, running
from hw_base.grading.contract import Item, Prediction, Scores
from hw_base.grading.outcome import ExitCode, SubmissionError
from hw_base.grading.report import Report
from hw_base.grading.request import Request
from hw_base.grading.settings import points
from hw_base.grading.submission import Submission, open_submission
from hw_base.grading.texts import clean

_PREDICTION_SHOWN = 500
# Bytes of an output.json; reading it takes several times as much memory.
_LARGEST = 256 << 20


def grade(source: Path, name: str, request: Request, output: Path) -> dict[str, Any]:
    """Grade one submission; the report is written, whatever happens.

    Args:
        source: folder or archive.
        name: of the submission, for the report and the adjustments.
        output: the report's file.

    Returns:
        The report.
    """
    report = Report(output, clean(name, 200), request.task)
    report.content |= request.described()
    code, reason = ExitCode.GRADER, ""
    try:
        with _scratch() as scratch:
            code, reason = _Grading(source, name, request, report, scratch).run()
    except SubmissionError as error:
        code, reason = ExitCode(error.exit_code), clean(str(error))
        if error.limit is not None:
            report.content["limits_hit"] = [error.limit]
    except HwError as error:
        code, reason = ExitCode(error.exit_code), clean(str(error))
    except Exception as error:  # the grader's own fault is distinguished from the submission's, and reported
        code, reason = ExitCode.GRADER, clean(f"{type(error).__name__}: {error}")
        traceback.print_exc(file=sys.stderr)
    report.finish(code, reason)
    return report.content


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hw_grade_"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Grading:
    """The stages of one grading."""

    fresh: dict[str, float] | None = None

    def __init__(self, source: Path, name: str, request: Request, report: Report, scratch: Path) -> None:
        self.source, self.name, self.request, self.scratch = source, name, request, scratch
        self.report, self.grading, self.settings = report, request.grading, request.settings

    def run(self) -> tuple[ExitCode, str]:
        request, content = self.request, self.report.content
        has_command = self.settings.command is not None
        copy = self.scratch / "submission"
        submission = open_submission(self.source, copy, request.limits, self.grading.suffix, has_command)
        content["submission"] |= _described(submission)
        if submission.unused is not None:
            message = "predictions were handed in beside what makes them; they were not looked at"
            content["findings"].append(checks.finding("stale_output", message, clean(submission.unused, 200)))
        self.report.write()
        if submission.kind == "predictions":
            content["isolation"] = {"isolated": None, "statement": "nothing of the submission was run", "tool": None}
            predictions = dict(self._read(submission.folder / submission.main))
        else:
            predictions = self._run(submission)
        return self._score(predictions)

    def _read(self, path: Path) -> Mapping[str, Prediction]:
        if path.is_file() and path.stat().st_size > _LARGEST:
            reason = f"{path.name}: {path.stat().st_size} bytes are more than any predictions have"
            raise SubmissionError(ExitCode.INVALID, reason)
        try:
            return self.grading.read(path, self.settings.decoder)
        except DataError as error:
            reason = str(error).replace(f"{self.scratch}/", "")
            raise SubmissionError(ExitCode.INVALID, reason) from None

    def _run(self, submission: Submission) -> dict[str, Prediction]:
        """Predictions by utterance, made in the sandbox; the findings of its clips."""
        content, digests = self.report.content, self.request.data_digest
        seed = f"{submission.sha256}{digests['audio_sha256']}{self.settings.digest()}"
        chosen = prompts.choose(self.request.items, self.grading, self.settings.checks, seed, self.scratch / "fresh")
        runner = running.Runner(self.request, submission, self.scratch, self.report)
        answers = self._read(runner.run(chosen, "first"))
        running.add_spoken(content["measured"]["first"], answers.values())
        content["findings"] += checks.of_prompts(self.grading, chosen, answers, self.settings)
        predictions = {p.item.id: answers[p.name] for p in chosen if p.purpose == "scored" and p.name in answers}
        again = prompts.again(chosen, self.settings.checks.repeat, seed + "again")
        if again and submission.kind == "command":  # this project's own code answers alike
            second = self._read(runner.run(again, "second"))
            content["findings"] += checks.of_repetition(self.grading, again, second, predictions, self.settings)
        fresh = [p for p in chosen if p.purpose == "fresh"]
        if fresh:
            given = {p.item.id: answers[p.name] for p in fresh if p.name in answers}
            self.fresh = self._figures([p.item for p in fresh], given).metrics
            content["fresh_speech"] = {"utterances": len(fresh), "metrics": self.fresh}
        unknown = sorted(answers.keys() - {p.name for p in chosen})
        if unknown:
            shown = [clean(name, 100) for name in unknown[:10]]
            content["findings"].append(checks.finding("extra_ids", f"{len(unknown)} predictions of no clip", shown))
        return predictions

    def _figures(self, items: list[Item], predictions: Mapping[str, Prediction]) -> Scores:
        return self.grading.score(items, predictions, self.settings)

    def _score(self, predictions: dict[str, Prediction]) -> tuple[ExitCode, str]:
        content, items = self.report.content, self.request.items
        content["findings"] += checks.of_ids(items, predictions)
        usable = self._usable({item.id: predictions[item.id] for item in items if item.id in predictions})
        content["findings"] += checks.of_predictions(self.grading, items, usable, self.settings)
        scored = [item for item in items if item.altered is None]
        known = {item.id for item in items if item.altered is not None}
        usable = {key: value for key, value in usable.items() if key not in known}
        result = self._figures(scored, usable)
        sets = sorted({item.set for item in scored} - {""})
        figures = {"": result.metrics}
        for name in sets:
            part = [item for item in scored if item.set == name]
            figures[name] = self._figures(part, {i.id: usable[i.id] for i in part if i.id in usable}).metrics
        if self.fresh is not None:
            content["findings"] += checks.of_fresh_speech(result.metrics.get("wer"), self.fresh.get("wer"))
        rows = [
            {k: clean(v, _PREDICTION_SHOWN) if isinstance(v, str) else v for k, v in r.items()} for r in result.rows
        ]
        content |= {
            "metrics": result.metrics,
            "sets": {name: figures[name] for name in sets},
            "details": _cleaned(result.details),
            "normalizer": result.normalizer,
            "utterances": rows,
        }
        return self._grade(figures)

    def _usable(self, predictions: dict[str, Prediction]) -> dict[str, Prediction]:
        """Without what cannot be a prediction, which is then missing."""
        items, found = {item.id: item for item in self.request.items}, {}
        problems: dict[str, list[str]] = {}
        for key, value in predictions.items():
            named = self.grading.problems(items[key], value)
            for problem in named:
                problems.setdefault(problem, []).append(key)
            if not named:
                found[key] = value
        for problem, ids in sorted(problems.items()):
            message = f"{len(ids)} predictions cannot be used and count as empty"
            self.report.content["findings"].append(checks.finding(problem, message, ids[:10]))
        return found

    def _grade(self, figures: dict[str, dict[str, float]]) -> tuple[ExitCode, str]:
        earned, rows = points(self.settings, figures)
        given = dict(self.request.adjustments.get(self.name, {}))
        score = round(min(self.settings.max_score, max(0.0, earned + sum(given.values()))), 4)
        threshold = self.settings.threshold
        passed = threshold is None or score >= threshold
        self.report.content["grade"] = {
            "score": score,
            "max_score": self.settings.max_score,
            "earned": earned,
            "adjustments": given,
            "threshold": threshold,
            "passed": passed,
            "table": rows,
        }
        if passed:
            return ExitCode.GRADED, f"{score:g} of {self.settings.max_score:g} points"
        return ExitCode.BELOW_THRESHOLD, f"{score:g} points, and {threshold:g} are asked for"


def _described(submission: Submission) -> dict[str, Any]:
    description: dict[str, Any] = {
        "kind": submission.kind,
        "sha256": submission.sha256,
        "files": submission.n_files,
        "bytes": submission.n_bytes,
        "main": clean(submission.main, 200),
    }
    if submission.kind in ("checkpoint", "old template"):
        path = submission.folder / submission.main
        description["checkpoint"] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
    return description


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value, 200)
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items()}
    return [_cleaned(item) for item in value] if isinstance(value, list | tuple) else value
