"""The report of one grading: a JSON file of the schema beside this module, and a page for people."""

import json
import math
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from hw_base import storage
from hw_base.grading.outcome import STATUS, ExitCode

SCHEMA = "hw_base/grading/report/v1"
_HERE = Path(__file__).parent
_PACKAGES = ("torch", "torchaudio", "numpy", "soundfile", "pydantic")


def schema() -> dict[str, Any]:
    """The JSON schema of a report."""
    loaded: dict[str, Any] = json.loads((_HERE / "report.schema.json").read_text(encoding="utf-8"))
    return loaded


class Report:
    """A report that is on disk from the first moment on.

    Args:
        path: ``.json``; the page lies beside it.
        name: of the submission.
        task: what is graded.

    Attributes:
        content: see ``report.schema.json``.
    """

    def __init__(self, path: Path, name: str, task: str) -> None:
        self.path = path
        self.content: dict[str, Any] = {
            "schema": SCHEMA,
            "status": "failed",
            "exit_code": int(ExitCode.GRADER),
            "reason": "the grading did not come to its end",
            "submission": {"name": name},
            "task": task,
            "grade": None,
            "metrics": {},
            "findings": [],
            "limits_hit": [],
            "versions": versions(),
            "measured": {},
            "times": {"started": _now()},
        }
        self.write(page=False)

    def finish(self, code: ExitCode, reason: str) -> None:
        """Set the end and write it."""
        self.content |= {"status": STATUS[code], "exit_code": int(code), "reason": reason}
        self.content["times"]["finished"] = _now()
        self.write()

    def write(self, page: bool = True) -> None:
        """Replace the files atomically, whatever rights the old ones have."""
        write_report(self.path, self.content, page)


def write_report(path: Path, content: Mapping[str, Any], page: bool = True) -> None:
    """Write a report and its page."""
    storage.write_json(path, _finite(content), "-o")
    if page:
        page_of("report.html", path.with_suffix(".html"), report=content)


def page_of(template: str, path: Path, **values: Any) -> None:
    """Fill a template of this package; everything is escaped."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True, trim_blocks=True)
    storage.write_text(path, environment.get_template(template).render(**values))


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Of the interpreter and the packages that figures depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def comparable(content: Mapping[str, Any]) -> dict[str, Any]:
    """A report without what differs from one grading of the same input to the next."""
    return {key: value for key, value in content.items() if key not in ("times", "measured")}


def _finite(value: Any) -> Any:
    """JSON knows neither NaN nor infinity."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
