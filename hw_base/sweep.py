# PYTHON_ARGCOMPLETE_OK
"""Search a config's values: ``python -m hw_base.sweep -c CONFIG --search search.json -o sweeps/a --trials 20``.

Each trial is a training of its own, in a process of its own: one that crashes is noted, and the next begins. What is
known lies in a SQLite file, so that the same command resumes a sweep that was killed, its unfinished trial first.
"""

import argparse
import contextlib
import ctypes
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

import hw_base
from hw_base import distributed
from hw_base.config.read import read as read_file
from hw_base.config.resolve import read, resolve
from hw_base.errors import REQUEUE_EXIT_CODE, ConfigError, InterruptedRun, MissingPackageError
from hw_base.registry import suggest
from hw_base.reports import sweep as page
from hw_base.reports.record import finite
from hw_base.runs import cli
from hw_base.runs.parser import Parser
from hw_base.storage import exclusive, write_json
from hw_base.writers.jsonl import read_rows

log = logging.getLogger(__name__)

TRAIN = [sys.executable, str(Path(hw_base.__file__).resolve().parent.parent / "train.py")]
_FOLDER, _SPACE = "folder", "search"
# How a training ends that was asked to, see docs/runs.md: exit code -> signal.
_ASKED = {
    REQUEUE_EXIT_CODE: signal.SIGUSR1,
    **{128 + number: number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)},
}


class _Values(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Range(_Values):
    """Numbers from `low` to `high`: whole ones if both are, on a logarithmic scale if `log`."""

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError("expected low < high" + (", and low > 0 with log" if self.log else ""))
        return self


class Choices(_Values):
    """One of some values, of any kind."""

    choices: Annotated[list[Any], Field(min_length=1)]


Space = Mapping[str, Range | Choices]
_SPACE_OF = TypeAdapter(dict[str, Range | Choices])


@dataclass(frozen=True)
class Sweep:
    """What is searched, and how.

    Attributes:
        config: file that is trained.
        overrides: ``KEY=VALUE`` of every trial.
        space: key of the config -> what is tried there.
        folder: where everything is written.
        monitor: ``min val/wer``.
        extra: further arguments of ``train.py``.
        command: that trains.
    """

    config: str
    overrides: Sequence[str]
    space: Space
    folder: Path
    monitor: str
    extra: Sequence[str] = ()
    command: Sequence[str] = tuple(TRAIN)


def main(argv: Sequence[str] | None = None, command: Sequence[str] = tuple(TRAIN)) -> int:
    """The exit code; `command` is what trains."""
    parser = Parser(
        "python -m hw_base.sweep",
        "Search values of a config's keys by many trainings, one after the other.",
        ["-c configs/tiny/ds2.json --search search.json -o sweeps/lr --trials 10 --set trainer.max_steps=100"],
        epilog='search.json: {"optimizers.model.args.lr": {"low": 1e-4, "high": 1e-2, "log": true}, '
        '"model.args.n_hidden": {"choices": [24, 48]}}',
    )
    parser.add_argument("-c", "--config", metavar="FILE", required=True, help="JSON or YAML config")
    parser.add_argument("--search", metavar="FILE", required=True, help="JSON or YAML: what is tried for which key")
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="of the sweep; one that is there is resumed"
    )
    parser.add_argument("--trials", type=cli.positive(int), default=20, metavar="N", help="in all (default: 20)")
    parser.add_argument("--monitor", metavar="RULE", help='"min val/wer"; by default trainer.monitor of the config')
    parser.add_argument("--seed", type=int, default=0, help="of the search (default: 0)")
    parser.add_argument("-d", "--device", default="auto", help=distributed.DEVICES)
    cli.add_set(parser)
    cli.add_import(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        space = read_space(arguments.search)
        monitor = _check(arguments, space)
        imports = [word for name in arguments.imports for word in ("--import", name)]
        extra = ["-d", arguments.device, *imports]
        sweep = Sweep(arguments.config, arguments.set, space, arguments.output, monitor, extra, command)
        run(sweep, arguments.trials, arguments.seed)
        return 0

    return cli.run(work, arguments.imports)


def read_space(path: str | Path) -> Space:
    """What is tried for which key.

    Raises:
        ConfigError: the file cannot be read, or says something else.
    """
    try:
        space: Space = _SPACE_OF.validate_python(read_file(path))
    except ValidationError as error:
        keys = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors() if problem["loc"])
        says = 'expected {"low": ..., "high": ..., "log": true or false} with low < high, or {"choices": [...]}'
        raise ConfigError("\n".join(f"{path}: {key}: {says}" for key in keys)) from None
    if not space:
        raise ConfigError(f"{path}: names no key to search")
    return space


def _check(arguments: argparse.Namespace, space: Space) -> str:
    """Check the config with all values that can be tried, before anything is trained; the monitor."""
    raw, extremes = read(arguments.config), []
    for key, values in space.items():
        tried = values.choices if isinstance(values, Choices) else [values.low, values.high]
        extremes += [f"{key}={json.dumps(value)}" for value in tried]
    for change in extremes:
        resolve(raw, [*arguments.set, change])
    config = resolve(raw, arguments.set)
    monitor = arguments.monitor or config.trainer.monitor
    if monitor is None:
        raise ConfigError('--monitor: the config has no trainer.monitor; give one, for example "min val/loss"')
    mode, _, key = monitor.partition(" ")
    if mode not in ("min", "max") or key.partition("/")[0] not in config.evaluation_splits():
        known = suggest(key.partition("/")[0], config.evaluation_splits())
        raise ConfigError(
            f'--monitor {monitor}: expected "min SPLIT/NAME" or "max SPLIT/NAME" of an evaluation split. {known}'
        )
    return str(monitor)


def run(sweep: Sweep, n_trials: int, seed: int = 0) -> None:
    """Train until there are so many trials, those of earlier calls included; then say what is best.

    Raises:
        ConfigError: the folder holds a sweep of something else, or its database is damaged.
        DataError: the folder cannot be made.
        InterruptedRun: a training was asked to end; the same command resumes it.
    """
    optuna = _optuna()
    with exclusive(sweep.folder / ".lock", f"{sweep.folder}: another process is searching there; waiting"):
        study = _open(optuna, sweep, seed)
        _queue_again(optuna, study)
        done = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL)
        while sum(trial.state in done for trial in _trials(study)) < n_trials:
            _one(optuna, study, sweep)
            write_json(sweep.folder / "trials.json", _rows(study, sweep), option="-o")
        report(optuna, study, sweep)
    _say(study, sweep)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingPackageError("hw_base.sweep", "optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _open(optuna: Any, sweep: Sweep, seed: int) -> Any:
    storage = f"sqlite:///{(sweep.folder / 'sweep.db').resolve()}"
    direction = {"min": "minimize", "max": "maximize"}[sweep.monitor.split()[0]]
    try:
        study = optuna.create_study(storage=storage, study_name="sweep", direction=direction, load_if_exists=True)
    except Exception as error:  # of SQLite, SQLAlchemy or Optuna, each of which has its own
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise ConfigError(f"-o {sweep.folder}: sweep.db cannot be used: {reason}; choose another folder") from None
    # As many random numbers have been drawn as there are trials: none is repeated.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    about: dict[str, Any] = {"config": sweep.config, "monitor": sweep.monitor, "set": list(sweep.overrides)}
    about["space"] = {key: values.model_dump() for key, values in sweep.space.items()}
    before = study.user_attrs.get(_SPACE)
    if before is not None and before != about:
        changed = ", ".join(key for key in about if about[key] != before.get(key))
        raise ConfigError(f"-o {sweep.folder}: holds a sweep with another {changed}; choose another folder")
    study.set_user_attr(_SPACE, about)
    return study


def _queue_again(optuna: Any, study: Any) -> None:
    """Put the trial that was running when the last process ended at the front."""
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={_FOLDER: _folder_of(trial)})


def _folder_of(trial: Any) -> str:
    return str(trial.user_attrs.get(_FOLDER, f"{trial.number:04d}"))


def _trials(study: Any) -> list[Any]:
    """The trials, of those that were resumed the last part only."""
    return list({_folder_of(trial): trial for trial in study.trials}.values())


def _one(optuna: Any, study: Any, sweep: Sweep) -> None:
    """One trial, whatever becomes of it."""
    trial = study.ask({key: _distribution(optuna, values) for key, values in sweep.space.items()})
    name = _folder_of(trial)
    trial.set_user_attr(_FOLDER, name)
    changes = [f"{key}={_text(trial.params[key], sweep.space[key])}" for key in sweep.space]
    folder = sweep.folder / name
    log.info("trial %d: %s", trial.number, " ".join(changes))
    code, asked = _train(sweep, changes, folder)
    if asked is not None and code != 0:  # the trial stays a running one, which the next call resumes
        message = f"trial {trial.number} was asked to end (exit code {code}); the same command resumes it"
        raise InterruptedRun(asked, message)
    value = best_value(folder / "metrics.jsonl", sweep.monitor) if code == 0 else None
    if value is None:
        reason = _last_line(folder.with_suffix(".log")) if code else f"no value of {sweep.monitor}"
        trial.set_user_attr("reason", reason)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        log.warning("trial %d failed with exit code %d: %s", trial.number, code, reason)
    else:
        study.tell(trial, value)
        log.info("trial %d: %s %.6g", trial.number, sweep.monitor, value)
    if asked is not None:
        raise InterruptedRun(asked, f"asked to end after trial {trial.number}; the same command resumes the sweep")


def _distribution(optuna: Any, values: Range | Choices) -> Any:
    if isinstance(values, Choices):
        return optuna.distributions.CategoricalDistribution([json.dumps(value) for value in values.choices])
    whole = isinstance(values.low, int) and isinstance(values.high, int)
    kind = optuna.distributions.IntDistribution if whole else optuna.distributions.FloatDistribution
    return kind(values.low, values.high, log=values.log)


def _text(value: Any, values: Range | Choices) -> str:
    return str(value) if isinstance(values, Choices) else json.dumps(value)


def _train(sweep: Sweep, changes: Sequence[str], folder: Path) -> tuple[int, int | None]:
    """Train in a process of its own, whose output goes to a file beside its folder.

    Returns:
        Its exit code, and the signal that asked it to end, if any. While it is still importing, such a signal ends it
        as any other program, without an exit code that says so.
    """
    command = [*sweep.command, "-c", sweep.config, "--run-dir", str(folder), "-r", "auto", *sweep.extra]
    command += ["--set", *sweep.overrides, *changes]
    with open(folder.with_suffix(".log"), "ab") as output:
        # In a session of its own, so that Ctrl-C reaches it once, from here.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        with _passed_on(process) as passed:
            code = process.wait()
    return code, passed[0] if passed else _ASKED.get(code)


def _end_with_parent() -> None:
    """Let the kernel send SIGTERM to this process when its parent is killed: it saves and ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


@contextlib.contextmanager
def _passed_on(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Inside, signals that ask a program to end go to the training, which saves; it is waited for.

    Yields:
        The signals that were passed on, so far.
    """
    passed: list[int] = []

    def pass_on(number: int, frame: object) -> None:
        passed.append(number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    before = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield passed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def best_value(record: Path, monitor: str) -> float | None:
    """The best value that a run recorded; None if there is none.

    Args:
        record: ``metrics.jsonl`` of the run; it may be missing.
        monitor: ``min SPLIT/NAME`` or ``max SPLIT/NAME``.
    """
    mode, _, key = monitor.partition(" ")
    split, _, name = key.partition("/")
    if not record.is_file():
        return None
    rows = [row for row in read_rows(record) if row.get("split") == split and "table" not in row]
    values = [value for row in rows if (value := finite(row.get(name))) is not None]
    return (min if mode == "min" else max)(values, default=None)


def _last_line(path: Path) -> str:
    with contextlib.suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "no message")[:300]
    return "no message"


def _rows(study: Any, sweep: Sweep) -> list[dict[str, Any]]:
    """What is known of each trial that has ended."""
    return [
        {
            "trial": t.number,
            "folder": _folder_of(t),
            "value": t.value,
            "state": t.state.name.lower(),
            "reason": t.user_attrs.get("reason", ""),
            "set": {key: json.loads(_text(t.params[key], sweep.space[key])) for key in t.params},
        }
        for t in _trials(study)
        if t.state.is_finished()
    ]


def report(optuna: Any, study: Any, sweep: Sweep) -> None:
    """Write ``trials.json``, and ``sweep.html`` with what matters how much."""
    rows = _rows(study, sweep)
    write_json(sweep.folder / "trials.json", rows, option="-o")
    weights: dict[str, float] = {}
    if len({row["value"] for row in rows if row["value"] is not None}) > 1 and len(sweep.space) > 1:
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        weights = optuna.importance.get_param_importances(study, evaluator=evaluator)
    page.write(sweep.folder / "sweep.html", sweep.monitor, rows, weights)


def _say(study: Any, sweep: Sweep) -> None:
    try:
        best = study.best_trial
    except ValueError:
        raise ConfigError(f"{sweep.folder}: no trial gave a value; see {sweep.folder}/*.log") from None
    changes = [f"{key}={_text(best.params[key], sweep.space[key])}" for key in sweep.space]
    words = ["python", "train.py", "-c", sweep.config, *sweep.extra, "--set", *sweep.overrides, *changes]
    print(f"best of {len(_trials(study))}: {sweep.monitor} {best.value:.6g}, in {sweep.folder / _folder_of(best)}")
    print(f"{shlex.join(words)}\n{sweep.folder / 'sweep.html'}")


if __name__ == "__main__":
    sys.exit(main())
