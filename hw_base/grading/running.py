"""The prediction stage: what a submission brings is run on neutral copies of the hidden data."""

import contextlib
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hw_base.audio import io as audio
from hw_base.errors import DataError
from hw_base.files import archives
from hw_base.grading import prompts, sandbox
from hw_base.grading.contract import Prediction
from hw_base.grading.outcome import ExitCode, SubmissionError
from hw_base.grading.predict import MODEL_FILE
from hw_base.grading.prompts import Prompt
from hw_base.grading.report import Report
from hw_base.grading.request import Request
from hw_base.grading.submission import Submission
from hw_base.grading.texts import clean
from hw_base.grading.watch import Outcome
from hw_base.texts.files import from_json

_PRINTED_SHOWN = 4_000
_MOST_OUTPUT_FILES = 100_000
_BY_LIMIT = {"time": ExitCode.TIME}
_STOPPED = {
    "time": "it did not end within {time:g} s",
    "memory": "it needed more than {memory} bytes of memory",
    "disk": "it wrote more than {disk} bytes",
    "processes": "it started {processes} processes",
    "printed": "it printed more than {printed} bytes",
}


class Runner:
    """Runs one submission, perhaps several times.

    Args:
        request: limits and settings.
        submission: what is run.
        scratch: folder for inputs and outputs.
        report: gets what was in force and what was measured.
    """

    def __init__(self, request: Request, submission: Submission, scratch: Path, report: Report) -> None:
        self.request, self.submission, self.scratch, self.report = request, submission, scratch, report

    def run(self, chosen: Sequence[Prompt], name: str) -> Path:
        """Predict for some prompts; the file or folder with what was predicted.

        Raises:
            SubmissionError: it crashed, hit a limit, or left nothing.
        """
        request, folder = self.request, self.scratch / name
        data = folder / "data"
        seconds = prompts.write(chosen, request.grading, data)
        content = self.report.content
        archive = folder / "output.tar"
        outcome = sandbox.run(self._job(data), request.limits, request.isolated, archive)
        content["isolation"] = sandbox.statement(request.isolated, outcome.control_group)
        content["measured"][name] = _measured(outcome, seconds)
        content["printed"] = {"run": name, **_printed(outcome)}
        self._refuse_failure(outcome)
        output = self._unpack(archive, folder / "output")
        about_model = _read_model(output / MODEL_FILE)
        if about_model:
            content["model"] = about_model
        found = output / self._output_name()
        if not found.exists():
            reason = f"it ended without an error and left no {self._output_name()!r}"
            raise SubmissionError(ExitCode.INVALID, reason)
        return found / "output.json" if (found / "output.json").is_file() else found

    def _output_name(self) -> str:
        return self.request.settings.output if self.submission.kind == "command" else "predictions"

    def _job(self, data: Path) -> sandbox.Job:
        settings = self.request.settings
        if self.submission.kind == "command":
            assert settings.command is not None
            interpreter = settings.interpreter or sys.executable
            command = [interpreter if part == "python" else part for part in settings.command]
            return sandbox.Job(command, data, self.submission.folder, [settings.output], True, interpreter)
        plan = {
            "task": self.request.task,
            "kind": self.submission.kind,
            "checkpoint": self.submission.main,
            "submission": "{submission}",
            "data": "{data}",
            "output": "predictions",
            "decoder": settings.decoder,
        }
        command = [sys.executable, "-m", "hw_base.grading.predict", json.dumps(plan)]
        return sandbox.Job(command, data, self.submission.folder, ["predictions", MODEL_FILE])

    def _refuse_failure(self, outcome: Outcome) -> None:
        if outcome.stopped is not None:
            limits = self.report.content["limits"]
            reason = _STOPPED[outcome.stopped].format(**limits)
            raise SubmissionError(_BY_LIMIT.get(outcome.stopped, ExitCode.SPACE), reason, outcome.stopped)
        if outcome.exit_code == 0:
            return
        lines = [line for line in outcome.stderr.strip().splitlines() if line.strip()]
        last = lines[-1] if lines else "it printed no error"
        if self.submission.kind != "command" and outcome.exit_code in (ExitCode.INVALID, ExitCode.UNSAFE):
            raise SubmissionError(ExitCode(outcome.exit_code), last.removeprefix("error: "))
        raise SubmissionError(ExitCode.CRASHED, f"it ended with exit code {outcome.exit_code}: {last[:500]}")

    def _unpack(self, archive: Path, folder: Path) -> Path:
        try:
            return archives.extract(archive, folder, max_bytes=self.request.limits.disk, max_members=_MOST_OUTPUT_FILES)
        except DataError as error:
            reason = str(error).removeprefix(f"{archive}: ")
            if "holds no files" in reason:
                reason = "it ended without an error and left no predictions"
            raise SubmissionError(ExitCode.INVALID, reason) from None


def add_spoken(measured: dict[str, Any], answers: Iterable[Prediction]) -> None:
    """Of synthesis the audio whose seconds count is what was spoken."""
    paths = [answer for answer in answers if isinstance(answer, Path)]
    seconds = 0.0
    for path in paths:
        with contextlib.suppress(DataError):
            seconds += audio.info(path).duration
    if seconds:
        measured |= {"audio_seconds": round(seconds, 3), "real_time_factor": round(measured["seconds"] / seconds, 4)}


def _measured(outcome: Outcome, seconds: float) -> dict[str, Any]:
    return {
        "seconds": round(outcome.seconds, 3),
        "audio_seconds": round(seconds, 3),
        "real_time_factor": round(outcome.seconds / seconds, 4) if seconds else None,
        "peak_memory": outcome.peak_memory,
        "peak_processes": outcome.peak_processes,
    }


def _printed(outcome: Outcome) -> dict[str, Any]:
    return {
        "bytes": outcome.printed,
        "stdout": clean(outcome.stdout, _PRINTED_SHOWN),
        "stderr": clean(outcome.stderr[-_PRINTED_SHOWN:], _PRINTED_SHOWN),
    }


def _read_model(path: Path) -> dict[str, Any]:
    """What the sandbox says of the model; untrusted code may have written it."""
    try:
        about_model = from_json(path.read_text(encoding="utf-8"))
        return {"name": clean(str(about_model["model"]), 100), "parameters": int(about_model["parameters"])}
    except (OSError, ValueError, KeyError, TypeError, OverflowError):  # the last one of 1e999
        return {}
