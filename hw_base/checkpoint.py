"""Checkpoints: one file of tensors and plain containers, written atomically, verified and read without running code.

The file is an ordinary torch file. Its SHA-256 stands in the comment of the zip archive that it is: the archive's own
checksums are not looked at when it is read, and a flipped bit would load silently.
"""

import contextlib
import errno
import hashlib
import logging
import os
import pickle
import re
import shutil
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from hw_base import storage
from hw_base.errors import CheckpointError, HwError
from hw_base.files import disk_space, published
from hw_base.files.checkpoint_checks import check_archive, check_state, check_values, misfit

log = logging.getLogger(__name__)

FORMAT = 2
BEST = "model_best.pth"
# What is needed to use a trained model, and to resume its training.
MODEL_PARTS = ("config", "text_encoder", "model")
RUN_PARTS = (
    *MODEL_PARTS,
    "optimizations",
    "step",
    "epoch",
    "batch",
    "evaluated_at",
    "monitor",
    "guard",
    "window",
    "rng",
)
_MARK = b"sha256:"
_COMMENT_SIZE = len(_MARK) + 64
# What an archive ends with: the length of its comment, and the comment.
_LENGTH = struct.pack("<H", _COMMENT_SIZE)
# Modules whose functions start programs or other functions; a stub would be as inert, and a refusal says more.
_RUNS_CODE = {"builtins", "__builtin__", "os", "posix", "nt", "sys", "subprocess", "importlib", "runpy", "ctypes"}
_RUNS_CODE |= {"shutil", "socket", "pty", "code", "webbrowser", "operator"}
# Tensors that do not fit are listed up to so many.
_MAX_NAMED = 8
_NAME = re.compile(r"checkpoint-(\d+)\.pth")


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"checkpoint-{step:08d}.pth"


def step_of(path: Path) -> int:
    """The step of a checkpoint that `path_of` named."""
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; whenever the process dies, `path` is either what it was or complete.

    Args:
        path: the file, ``.pth``.
        state: tensors and plain containers.

    Raises:
        CheckpointError: it could not be written, for example because the disk is full; the temporary file is removed.
    """
    try:
        with storage.replacing(path) as scratch:
            torch.save({"format": FORMAT, **state}, scratch)
            _seal(scratch)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        free = shutil.disk_usage(path.parent).free if path.parent.exists() else 0
        needed = disk_space.size_of(state)
        space = f"{disk_space.mib(needed)} are needed, {free / 2**20:.0f} MiB are free there"
        full = isinstance(error, RuntimeError) and free < needed
        reason = os.strerror(errno.ENOSPC) if full else _first_line(error)
        raise CheckpointError(f"{path}: not written ({space}): {reason}") from error


def _seal(path: Path) -> None:
    """Append the digest as the archive's comment."""
    with open(path, "r+b") as file:
        file.seek(-2, os.SEEK_END)
        if file.read(2) != b"\0\0":
            raise RuntimeError("the archive already has a comment")
        digest = _digest(path, path.stat().st_size - 2)
        file.seek(-2, os.SEEK_END)
        file.write(_LENGTH + _MARK + digest.encode())


def _digest(path: Path, size: int) -> str:
    """SHA-256 of the first `size` bytes."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while size > 0 and (block := file.read(min(size, 1 << 20))):
            hasher.update(block)
            size -= len(block)
    return hasher.hexdigest()


def verify(path: Path) -> None:
    """Check that a checkpoint is complete and unchanged since it was written.

    Raises:
        CheckpointError: it is missing, truncated, damaged, or was not written by `save`.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            file.seek(max(0, size - _COMMENT_SIZE - len(_LENGTH)))
            length, comment = file.read(len(_LENGTH)), file.read()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    if not comment.startswith(_MARK):
        raise CheckpointError(f"{path}: truncated, or not a checkpoint of this project ({size} bytes, no checksum)")
    digest = _digest(path, size - _COMMENT_SIZE - len(_LENGTH))
    if length != _LENGTH or digest != comment[len(_MARK) :].decode("ascii", "replace"):
        raise CheckpointError(f"{path}: damaged, its content does not match its checksum; use an older checkpoint")


def load(path: str | Path, needs: Collection[str] = ()) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Args:
        path: the file, ``.pth``, or a published one, ``.safetensors``.
        needs: parts that must be in it, ``("config", "model")``.

    Raises:
        CheckpointError: see `verify`; or it holds more than tensors and plain containers, is of a newer format, lacks a
            part, or a part is not what it should be.
    """
    path = Path(path)
    if path.suffix == published.SUFFIX:
        state: Any = {"format": FORMAT, **published.load(path)}
        check_values(path, state)
    else:
        verify(path)
        state = load_untrusted(path)
    if not isinstance(state, dict) or state.get("format") not in (*_UPGRADES, FORMAT):
        found = repr(state.get("format")) if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(f"{path}: checkpoint format {found:.80}; this version reads {FORMAT} and before")
    missing = sorted(set(needs) - state.keys())
    if missing:
        raise CheckpointError(f"{path}: no {', '.join(missing)} in it; is it the checkpoint of a training run?")
    check_state(path, state)
    upgraded: dict[str, Any] = state
    while upgraded["format"] != FORMAT:
        upgraded = _UPGRADES[upgraded["format"]](upgraded)
    return upgraded


def from_format_1(state: dict[str, Any]) -> dict[str, Any]:
    """Of the first edition: no components of other packages, and a plateau's direction stood in its config.

    The default ``mode: min`` was written there whatever the monitor said; the direction is now the monitor's.
    """
    state = {"packages": [], "task": {}, **state, "format": 2}
    config = state.get("config")
    optimizers = config.get("optimizers") if isinstance(config, dict) else None
    for section in optimizers.values() if isinstance(optimizers, dict) else ():
        schedule: Any = section.get("scheduler") if isinstance(section, dict) else None
        plateau = isinstance(schedule, dict) and schedule.get("type") == "ReduceLROnPlateau"
        if plateau and isinstance(schedule.get("args"), dict):
            schedule["args"].pop("mode", None)
    return state


# Format number -> what makes the state of that format one of the next; names within configs: `hw_base.config.upgrade`.
_UPGRADES: dict[object, Callable[[dict[str, Any]], dict[str, Any]]] = {1: from_format_1}


class _Stub:
    """Stands for an object of an unknown class: it takes whatever is done to it and does nothing."""

    def __new__(cls, *arguments: Any, **named: Any) -> "_Stub":
        return object.__new__(cls)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Forget a value."""

    def extend(self, values: Any) -> None:
        """Forget values."""


def load_with_stubs(path: str | Path) -> tuple[Any, list[str]]:
    """Read a torch file that holds objects besides tensors, such as the config of an older template.

    Objects of classes that plain loading refuses become inert stubs: nothing of the file is run, imported or built.

    Returns:
        The content, and the names of what became stubs.

    Raises:
        CheckpointError: as `load_untrusted`; or it names functions that no honest checkpoint calls.
    """
    from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

    path = Path(path)
    try:
        check_archive(path)
        names = sorted(get_unsafe_globals_in_checkpoint(os.fspath(path)))
    except HwError:
        raise
    except Exception as error:  # as in `load_untrusted`
        raise CheckpointError(f"{path}: not a readable torch file: {_first_line(error)}") from None
    hostile = [name for name in names if name.split(".")[0] in _RUNS_CODE]
    if hostile:
        raise CheckpointError(f"{path}: refused, it would run {hostile[0]}")
    stubs: list[Any] = [(type("Stub", (_Stub,), {}), name) for name in names]
    with safe_globals(stubs):
        return load_untrusted(path), names


def load_untrusted(path: str | Path) -> Any:
    """Read any torch file without running code from it and without taking more memory than its size on disk.

    Raises:
        CheckpointError: not a torch file, an archive that readers understand differently, views larger than their
            storage, containers without end, or code inside.
    """
    path = Path(path)
    try:
        check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except HwError:
        raise
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise CheckpointError(f"{path}: refused, it holds more than tensors and plain containers: {reason}") from None
    except Exception as error:  # a torch file is parsed by code that trusts it: any kind may come out
        raise CheckpointError(f"{path}: not a readable torch file: {_first_line(error)}") from None
    check_values(path, state)
    return state


@contextlib.contextmanager
def restoring(path: str | Path) -> Iterator[None]:
    """Surrounds what takes its state from a checkpoint: a state that does not fit is the file's fault, in one line.

    Raises:
        CheckpointError: naming the file.
    """
    try:
        yield
    except HwError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        log.debug("%s: in full", path, exc_info=error)
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise CheckpointError(f"{path}: malformed, its state cannot be restored: {reason}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def mark_best(checkpoint: Path, folder: Path | None = None) -> None:
    """Make ``model_best.pth`` the same file as a checkpoint, atomically.

    Args:
        checkpoint: the file.
        folder: of ``model_best.pth``; by default that of the checkpoint.

    Raises:
        CheckpointError: it could not be written; what was there is unchanged.
    """
    best = (folder or checkpoint.parent) / BEST
    try:
        with storage.replacing(best) as scratch:
            try:
                os.link(checkpoint, scratch)
            except OSError:  # a file system without hard links, or another one
                shutil.copyfile(checkpoint, scratch)
    except OSError as error:
        raise CheckpointError(
            f"{best}: not written: {error.strerror}{disk_space.said(best.parent, checkpoint)}"
        ) from error


def best_step(folder: Path) -> int | None:
    """The step of ``model_best.pth``; None if there is none that can be read."""
    try:
        step = load(folder / BEST, needs=("step",))["step"]
    except CheckpointError:
        return None
    return int(step)


def numbered(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    found = [(int(match[1]), path) for path in folder.glob("checkpoint-*.pth") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def newest_good(folder: Path) -> Path | None:
    """The newest checkpoint of a run that is intact; damaged ones are named in the log and left where they are."""
    for path in numbered(folder):
        try:
            verify(path)
        except CheckpointError as error:
            log.warning("%s; trying the one before", error)
        else:
            return path
    return None


def prune(folder: Path, keep: int, besides: Collection[int] = ()) -> None:
    """Delete all but the `keep` newest checkpoints and those of the steps `besides`."""
    spared = {path_of(folder, step) for step in besides}
    for path in numbered(folder)[keep:]:
        if path not in spared:
            path.unlink(missing_ok=True)


def set_aside(folder: Path, step: int) -> None:
    """Rename checkpoints of later steps, damaged or overtaken, so that they do not count as the newest."""
    for path in numbered(folder):
        if path > path_of(folder, step):
            os.replace(path, path.with_name(path.name + ".aside"))
            log.warning("%s is later than the step training resumes from; renamed to %s.aside", path, path.name)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half written, of checkpoints and of all else that lies in a run's folder."""
    for path in folder.glob(f"*{storage.TEMPORARY}"):
        if ".pth" in path.name or storage.is_temporary(path):
            path.unlink(missing_ok=True)


def load_weights(model: torch.nn.Module, weights: Mapping[str, Any], path: str | Path) -> None:
    """Load a state dict strictly.

    Raises:
        CheckpointError: missing, unexpected, differently shaped and unusable tensors, as many as fit into a line.
    """
    own = model.state_dict()
    if not isinstance(weights, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in weights.values()):
        raise CheckpointError(f"{path}: malformed, its weights are not a mapping of names to tensors")
    problems = [f"missing {name}" for name in own.keys() - weights.keys()]
    problems += [f"unexpected {name}" for name in weights.keys() - own.keys()]
    shared = own.keys() & weights.keys()
    problems += [f"{name} {fault}" for name in shared if (fault := misfit(weights[name], own[name]))]
    if problems:
        more = len(problems) - _MAX_NAMED
        shown = "; ".join(sorted(problems)[:_MAX_NAMED]) + (f"; and {more} more" if more > 0 else "")
        raise CheckpointError(f"{path}: made for another model: {shown}")
    model.load_state_dict(weights)
