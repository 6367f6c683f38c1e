"""Grading a class: every submission in a process of its own, a table of all, and a second run that only adds."""

import contextlib
import ctypes
import hashlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hw_base import storage
from hw_base.errors import ConfigError
from hw_base.grading import checks, formats
from hw_base.grading.outcome import STATUS, ExitCode
from hw_base.grading.report import Report, page_of, versions, write_report
from hw_base.grading.request import Request
from hw_base.grading.single import grade
from hw_base.grading.submission import fingerprint
from hw_base.grading.texts import clean

_PR_SET_PDEATHSIG = 1
_SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tar", ".zip")


def grade_class(
    folder: Path, request: Request, output: Path, jobs: int, kind: str | None = None
) -> list[dict[str, Any]]:
    """Grade every folder and archive in a folder.

    A submission whose report is there, complete, and made of the same files, data, config and limits is not graded
    again: whatever ended an earlier run, this one resumes it.

    Args:
        folder: with one entry for each submission; hidden ones are not looked at.
        request: see `Request`.
        output: gets ``NAME/report.json``, ``table.csv`` and ``table.html``.
        jobs: submissions at a time.
        kind: another system's format, for each submission or (``otter``) for the class.

    Returns:
        The reports, in the order of the names.
    """
    entries = _entries(folder)
    output.mkdir(parents=True, exist_ok=True)
    with storage.exclusive(output / ".lock"):
        _Class(entries, request, output, jobs).run()
        reports = _with_common_errors({name: _read(output / name / "report.json") for name in entries}, output)
        _write_tables(output, reports, request.isolated)
        if kind == "otter":
            formats.write(kind, output, list(reports.values()))
        elif kind is not None:
            for name, report in reports.items():
                formats.write(kind, output / name, [report])
    return list(reports.values())


def _entries(folder: Path) -> dict[str, Path]:
    """Name -> submission; names are those of folders that can be made of them."""
    if not folder.is_dir():
        raise ConfigError(f"--submissions {folder}: no such folder")
    entries: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        suffix = next((s for s in _SUFFIXES if path.name.lower().endswith(s)), "")
        if path.name.startswith(".") or not (path.is_dir() or suffix):
            continue
        name = re.sub(r"[^\w.-]", "_", path.name[: len(path.name) - len(suffix)] if not path.is_dir() else path.name)
        if name in entries:
            raise ConfigError(f"--submissions {folder}: {entries[name].name} and {path.name} would have one report")
        entries[name] = path
    if not entries:
        raise ConfigError(f"--submissions {folder}: no folders and no archives in it")
    return entries


class _Class:
    """Submissions graded by a number of processes at a time."""

    def __init__(self, entries: dict[str, Path], request: Request, output: Path, jobs: int) -> None:
        self.entries, self.request, self.output, self.jobs = entries, request, output, jobs
        self.running: dict[int, str] = {}
        self.done = 0
        self.started = time.monotonic()

    def run(self) -> None:
        """Grade what is not graded yet."""
        try:
            for name, source in self.entries.items():
                stamp = self._stamp(name, source)
                if _read(self.output / name / "report.json").get("fingerprint") == stamp:
                    self._say(name, "done already")
                    continue
                while len(self.running) >= self.jobs:
                    self._wait()
                self._start(name, source, stamp)
            while self.running:
                self._wait()
        finally:
            for pid in self.running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _stamp(self, name: str, source: Path) -> str:
        """Names everything that a report depends on."""
        try:
            submission = fingerprint(source)
        except OSError as error:
            submission = f"unreadable: {error.strerror}"
        given = sorted(self.request.adjustments.get(name, {}).items())
        content = [submission, self.request.described(), self.request.isolated, given, versions()]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _start(self, name: str, source: Path, stamp: str) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self.running[pid] = name
            return
        code = 1
        try:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            # Threads do not survive a fork, and waiting for them would never end.
            torch.set_num_threads(1)
            if os.getppid() == parent:
                path = self.output / name / "report.json"
                report = grade(source, name, self.request, path)
                write_report(path, {**report, "fingerprint": stamp})
                code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _wait(self) -> None:
        pid, status = os.wait()
        name = self.running.pop(pid, None)
        if name is None:
            return
        path = self.output / name / "report.json"
        if status != 0 or not path.is_file():
            report = Report(path, name, self.request.task)
            reason = f"the grading process ended with {os.waitstatus_to_exitcode(status)}"
            report.finish(ExitCode.GRADER, reason)
        content = _read(path)
        self._say(name, f"{content['status']}, {content['reason']}")

    def _say(self, name: str, what: str) -> None:
        self.done += 1
        seconds = time.monotonic() - self.started
        print(f"[{self.done}/{len(self.entries)}, {seconds:.0f} s] {clean(name, 100)}: {clean(what, 160)}", flush=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content


def _with_common_errors(reports: dict[str, dict[str, Any]], output: Path) -> dict[str, dict[str, Any]]:
    """The reports with what only a comparison of all of them finds."""
    wrong = {
        name: {
            row["id"]: row.get("samples_sha256", row["prediction"])
            for row in report.get("utterances", [])
            if row.get("samples_sha256") or (row["prediction"] and row.get("wer", 0.0) > 0)
        }
        for name, report in reports.items()
    }
    found = checks.common_errors(wrong)
    for name, report in reports.items():
        others = [one for one in report["findings"] if one["name"] != "equals_another"]
        findings = others + found.get(name, [])
        if findings != report["findings"]:
            report["findings"] = findings
            write_report(output / name / "report.json", report)
    return reports


def _write_tables(output: Path, reports: Mapping[str, Mapping[str, Any]], isolated: bool) -> None:
    metrics = list(dict.fromkeys(name for report in reports.values() for name in report["metrics"]))
    numbers = ["exit_code", "score", "max_score", *metrics, "seconds", "peak_memory_mb", "parameters"]
    columns = ["submission", "status", *numbers, "findings", "reason"]
    rows = [_row(name, report) for name, report in reports.items()]
    storage.write_text(output / "table.csv", formats.table(columns, rows))
    graded = sum(report["exit_code"] in (0, 1) for report in reports.values())
    page_of(
        "class.html",
        output / "table.html",
        rows=rows,
        columns=columns,
        numbers=numbers,
        graded=graded,
        isolated=isolated,
    )


def _row(name: str, report: Mapping[str, Any]) -> dict[str, Any]:
    grade_ = report["grade"] or {}
    measured = report["measured"].get("first", {})
    row = {
        "submission": report["submission"]["name"],
        "page": f"{name}/report.html",
        "status": STATUS.get(ExitCode(report["exit_code"]), report["status"]),
        "exit_code": report["exit_code"],
        "score": grade_.get("score", ""),
        "max_score": grade_.get("max_score", ""),
        "seconds": measured.get("seconds", ""),
        "peak_memory_mb": round(measured["peak_memory"] / 1e6) if measured else "",
        "parameters": report.get("model", {}).get("parameters", ""),
        "findings": ", ".join(dict.fromkeys(one["name"] for one in report["findings"])),
        "reason": report["reason"],
    }
    return row | {key: "" if value is None else round(value, 4) for key, value in report["metrics"].items()}
