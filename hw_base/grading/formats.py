"""The result files of other grading systems, made of our reports."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from hw_base.grading.outcome import ExitCode
from hw_base.storage import write_json, write_text

Format = Literal["gradescope", "classroom50", "otter"]
FILES: dict[str, str] = {"gradescope": "results.json", "classroom50": "result.json", "otter": "final_grades.csv"}
_MAX_SCORE = 100.0


def write(kind: str, folder: Path, reports: Sequence[Mapping[str, Any]]) -> Path:
    """Write the file that a system expects, under the name that it expects.

    Args:
        kind: see `Format`.
        folder: of the report.
        reports: of one submission, or for ``otter`` of a class.
    """
    path = folder / FILES[kind]
    if kind == "otter":
        write_text(path, otter(reports))
    else:
        write_json(path, (gradescope if kind == "gradescope" else classroom50)(reports[0]), "-o")
    return path


def gradescope(report: Mapping[str, Any]) -> dict[str, Any]:
    """``results.json`` as in Gradescope's autograder specification."""
    score, max_score = _points(report)
    tests = [
        {
            "name": _title(row),
            "score": float(row["score"]) if row["reached"] else 0.0,
            "max_score": float(row["score"]),
            "status": "passed" if row["reached"] else "failed",
            "output": "not measured" if row["found"] is None else f"found {row['found']:.4f}",
            "visibility": "visible",
        }
        for row in _table(report)
    ]
    measured = report["measured"].get("first", {})
    return {
        "score": score,
        "max_score": max_score,
        "execution_time": measured.get("seconds", 0.0),
        "output": f"{report['status']}: {report['reason']}",
        "visibility": "visible",
        # What a submission prints may quote what it was given.
        "stdout_visibility": "hidden",
        "tests": tests,
        "extra_data": {"findings": [one["name"] for one in report["findings"]], "exit_code": report["exit_code"]},
    }


def classroom50(report: Mapping[str, Any]) -> dict[str, Any]:
    """``result.json`` of the schema ``classroom50/result/v1``: scores are whole numbers."""
    score, max_score = _points(report)
    whole, whole_max = round(score), round(max_score)
    tests = [
        {
            "test-name": _title(row),
            "passed": bool(row["reached"]),
            "score": round(row["score"]) if row["reached"] else 0,
            "max-score": round(row["score"]),
        }
        for row in _table(report)
    ]
    name = f"{report['status']}: {report['reason']}"
    whole_test = {"test-name": name, "passed": report["exit_code"] == 0, "score": whole, "max-score": whole_max}
    return {
        "schema": "classroom50/result/v1",
        "score": whole,
        "max-score": whole_max,
        "tests": tests or [whole_test],
    }


def otter(reports: Sequence[Mapping[str, Any]]) -> str:
    """A CSV with one row for each submission."""
    rows = []
    for report in reports:
        score, max_score = _points(report)
        row = {"file": report["submission"]["name"], "percent_correct": score / max_score, "score": score}
        rows.append({**row, "max_score": max_score, "error": "" if report["exit_code"] <= 1 else report["reason"]})
    return table(["file", "percent_correct", "score", "max_score", "error"], rows)


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """A CSV; texts that a spreadsheet would compute begin with an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_harmless(row.get(name, "")) for name in columns])
    return buffer.getvalue()


def exit_code(kind: str | None, report: Mapping[str, Any]) -> int:
    """Of the program; Classroom 50 takes every other code than 0 for its own failure."""
    return 0 if kind == "classroom50" else int(ExitCode(report["exit_code"]))


def _points(report: Mapping[str, Any]) -> tuple[float, float]:
    grade = report["grade"]
    if grade is None:
        return 0.0, float(report.get("config", {}).get("max_score", _MAX_SCORE))
    return float(grade["score"]), float(grade["max_score"])


def _table(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [row for row in (report["grade"] or {}).get("table", []) if row["score"] > 0]


def _title(row: Mapping[str, Any]) -> str:
    bound = f"at most {row['at_most']:g}" if "at_most" in row else f"at least {row['at_least']:g}"
    return f"{row['metric'].upper()} {bound}" + (f" on {row['set']}" if "set" in row else "")


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
