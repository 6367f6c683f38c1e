"""The files that a submitted config names: they are taken from the submission, or the config is refused."""

import os
from pathlib import Path
from typing import Any

from hw_base.grading.outcome import ExitCode, SubmissionError

# The sections that predicting reads; paths of training corpora in the others are never followed.
_SECTIONS = ("features", "text_encoder", "model", "decoders")


def localized(config: dict[str, Any], submission: Path) -> dict[str, Any]:
    """The config with every path inside the submission.

    A path that leads elsewhere, as it did on the computer where it was trained, stands for the file of the same name in
    the submission.

    Raises:
        SubmissionError: a path leads outside, and no file of its name was handed in.
    """
    return {key: _walk(value, key, submission) if key in _SECTIONS else value for key, value in config.items()}


def _walk(value: Any, where: str, submission: Path) -> Any:
    if isinstance(value, dict):
        return {key: _walk(item, f"{where}.{key}", submission) for key, item in value.items()}
    if isinstance(value, list):
        return [_walk(item, f"{where}.{i}", submission) for i, item in enumerate(value)]
    return _inside(value, where, submission) if isinstance(value, str) and _is_path(value) else value


def _is_path(value: str) -> bool:
    return "/" in value or "\\" in value or value.startswith(("~", "$")) or value == ".."


def _inside(value: str, where: str, submission: Path) -> str:
    root = submission.resolve()
    wanted = (root / value).resolve()
    if not os.path.isabs(value) and value[0] not in "~$" and wanted.is_relative_to(root) and wanted.is_file():
        return str(wanted)
    name = value.replace("\\", "/").rstrip("/").rpartition("/")[2]
    same = [path for path in sorted(submission.rglob(name)) if path.is_file()] if name not in ("", "..") else []
    if len(same) != 1 or any(letter in name for letter in "*?["):
        raise SubmissionError(
            ExitCode.UNSAFE,
            f"refused, {where} of the config names {value!r}, which is not in the submission: hand the file in too",
        )
    return str(same[0].resolve())
