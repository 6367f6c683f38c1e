"""Predicting with a submitted checkpoint; runs inside the sandbox: ``python -m hw_base.grading.predict '<JSON>'``."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from hw_base import checkpoint, trained
from hw_base.config import read as config_files
from hw_base.errors import HwError
from hw_base.grading import local_paths
from hw_base.grading.contract import TaskGrading, grading_of
from hw_base.grading.outcome import ExitCode, SubmissionError

MODEL_FILE = "model.json"
_NEEDED = ("config", "model", "text_encoder", "task", "step")


def main() -> int:
    """Entry point; the argument is ``{"task", "kind", "checkpoint", "submission", "data", "output", "decoder"}``."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    try:
        about_model = _predict(job)
    except SubmissionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except HwError as error:
        print(f"error: {str(error).splitlines()[0]}", file=sys.stderr)
        return ExitCode.UNSAFE if "refused, it " in str(error) else ExitCode.INVALID
    Path(MODEL_FILE).write_text(json.dumps(about_model), encoding="utf-8")
    return 0


def _predict(job: dict[str, Any]) -> dict[str, Any]:
    grading = grading_of(job["task"])
    path, submission = Path(job["submission"]) / job["checkpoint"], Path(job["submission"])
    state = _converted(grading, path) if job["kind"] == "old template" else trained.read(path, ())
    config = state.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("task"), str):
        raise SubmissionError(ExitCode.INVALID, f"{path.name}: no config of this project in it")
    if config["task"] != job["task"]:
        raise SubmissionError(
            ExitCode.INVALID, f"{path.name}: of the task {config['task']!r}, expected {job['task']!r}"
        )
    state["config"] = local_paths.localized(_of_decoder(config, job["decoder"]), submission)
    scratch = Path("model.pth")
    checkpoint.save(scratch, {key: value for key, value in state.items() if key in _NEEDED})
    output = Path(job["output"])
    output.mkdir()
    return grading.predict(scratch, Path(job["data"]), output)


def _converted(grading: TaskGrading, path: Path) -> dict[str, Any]:
    """Of ``checkpoint.pth`` and ``config.json`` as the older template wrote them."""
    state, _ = checkpoint.load_with_stubs(path)
    weights = state.get("state_dict") if isinstance(state, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise SubmissionError(ExitCode.INVALID, f"{path.name}: no state_dict of tensors in it")
    beside = path.with_name("config.json")
    if not beside.is_file():
        raise SubmissionError(ExitCode.INVALID, f"{path.name}: not of this project, and no config.json lies beside it")
    return grading.convert(weights, config_files.read(beside))


def _of_decoder(config: dict[str, Any], decoder: str | None) -> dict[str, Any]:
    """The config with one decoder alone, where one is asked for."""
    decoders = config.get("decoders")
    if decoder is None or not isinstance(decoders, dict):
        return config
    if decoder not in decoders:
        has = ", ".join(sorted(map(str, decoders))) or "none"
        raise SubmissionError(ExitCode.INVALID, f"its config has no decoder {decoder!r}; it has {has}")
    return {**config, "decoders": {decoder: decoders[decoder]}}


if __name__ == "__main__":
    sys.exit(main())
