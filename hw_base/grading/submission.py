"""What was handed in: a folder, a zip or a tar, copied into a folder of our own and recognized by what is in it."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hw_base import checkpoint
from hw_base.errors import CheckpointError, ConfigError, DataError
from hw_base.files import archives
from hw_base.grading.limits import Limits
from hw_base.grading.outcome import ExitCode, SubmissionError

Kind = Literal["checkpoint", "old template", "command", "predictions"]
# Where a checkpoint is looked for; the old template's place is among them.
_CHECKPOINTS = ("model_best.pth", "checkpoint.pth", "default_test_model/checkpoint.pth")
_OUTPUT = "output.json"
_MOST_FILES = 20_000


@dataclass(frozen=True)
class Submission:
    """A copy of what was handed in.

    Attributes:
        kind: what it is.
        folder: the copy.
        main: the checkpoint, or the file or folder of predictions, relative to the folder.
        sha256: of all names and contents.
        n_files, n_bytes: in the copy.
        unused: predictions that lie beside something that makes them, and so were not looked at.
    """

    kind: Kind
    folder: Path
    main: str
    sha256: str
    n_files: int
    n_bytes: int
    unused: str | None = None


def open_submission(source: Path, folder: Path, limits: Limits, suffix: str, has_command: bool) -> Submission:
    """Copy or unpack a submission and say what it is.

    Args:
        source: folder or archive.
        folder: new, for the copy.
        limits: its size counts.
        suffix: of a prediction that is a file.
        has_command: the grading config says how submissions are run.

    Raises:
        ConfigError: there is no such submission.
        SubmissionError: invalid, or refused as unsafe.
    """
    if source.is_dir():
        _copy(source, folder, limits)
    elif source.is_file():
        _unpack(source, folder, limits)
    else:
        raise ConfigError(f"--submission {source}: no such file or folder")
    inner = _only_folder(folder)
    _make_readable(folder)
    paths = _files(inner)
    if not paths:
        raise SubmissionError(ExitCode.INVALID, "the submission is empty")
    kind, main, unused = _recognize(inner, suffix, has_command)
    sizes = sum(path.stat().st_size for path in paths)
    return Submission(kind, inner, main, _digest(inner, paths), len(paths), sizes, unused)


def fingerprint(source: Path) -> str:
    """SHA-256 of a submission as it lies there, to see whether it has changed; links are not followed."""
    if not source.is_dir():
        return hashlib.sha256(source.read_bytes()).hexdigest()
    return _digest(source, [path for path in _files(source) if not path.is_symlink()])


def _copy(source: Path, folder: Path, limits: Limits) -> None:
    n_bytes = n_files = 0
    for place, folders, files in os.walk(source):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(place) / name
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                shown = path.relative_to(source)
                raise SubmissionError(ExitCode.UNSAFE, f"refused, {str(shown)!r} is a link or a device")
        for name in sorted(files):
            path = Path(place) / name
            n_files, n_bytes = n_files + 1, n_bytes + path.stat().st_size
            if n_bytes > limits.disk or n_files > _MOST_FILES:
                raise SubmissionError(
                    ExitCode.SPACE, f"larger than {limits.disk / 1e6:.0f} MB or {_MOST_FILES} files", "disk"
                )
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(path, target, follow_symlinks=False)
                shutil.copymode(path, target, follow_symlinks=False)
            except OSError as error:
                raise SubmissionError(ExitCode.INVALID, f"{name!r} cannot be read: {error.strerror}") from None
    folder.mkdir(parents=True, exist_ok=True)


def _unpack(source: Path, folder: Path, limits: Limits) -> None:
    try:
        archives.extract(source, folder, max_bytes=limits.disk, max_members=_MOST_FILES)
    except DataError as error:
        reason = str(error).removeprefix(f"{source}: ")
        raise SubmissionError(ExitCode.UNSAFE if "refused" in reason else ExitCode.INVALID, reason) from None


def _only_folder(folder: Path) -> Path:
    """Archives often hold one folder with everything in it; also those that a Mac makes."""
    shown = [path for path in folder.iterdir() if path.name not in ("__MACOSX", ".DS_Store")]
    lies_deeper = len(shown) == 1 and shown[0].is_dir() and shown[0].name != "default_test_model"
    return shown[0] if lies_deeper else folder


def _make_readable(folder: Path) -> None:
    """The user of the sandbox is another one, and nothing of it is secret."""
    for place, _, files in os.walk(folder):
        os.chmod(place, 0o755)
        for name in files:
            path = os.path.join(place, name)
            os.chmod(path, 0o755 if os.stat(path).st_mode & 0o100 else 0o644)


def _files(folder: Path) -> list[Path]:
    return sorted(Path(place) / name for place, _, files in os.walk(folder) for name in files)


def _digest(folder: Path, paths: list[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        name = os.fsencode(path.relative_to(folder))
        total.update(name + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _recognize(folder: Path, suffix: str, has_command: bool) -> tuple[Kind, str, str | None]:
    predictions = _predictions(folder, suffix)
    if has_command:
        return "command", "", predictions
    found = [name for name in _CHECKPOINTS if (folder / name).is_file()]
    if not found:
        others = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.pth"))
        if len(others) > 1:
            raise SubmissionError(ExitCode.INVALID, f"{len(others)} checkpoints; name one of them checkpoint.pth")
        found = others
    if found:
        return _kind_of(folder / found[0]), found[0], predictions
    if predictions is None:
        raise SubmissionError(
            ExitCode.INVALID, f"neither a checkpoint (.pth), nor {_OUTPUT}, nor <id>{suffix} files were found"
        )
    return "predictions", predictions, None


def _kind_of(path: Path) -> Kind:
    """A checkpoint of this project carries a checksum, which anybody can compute: it only says how to read the file."""
    try:
        checkpoint.verify(path)
    except CheckpointError as error:
        if "damaged" in str(error):
            raise SubmissionError(ExitCode.INVALID, f"{path.name}: damaged, its checksum is wrong") from None
        return "old template"
    return "checkpoint"


def _predictions(folder: Path, suffix: str) -> str | None:
    if suffix == ".txt" and (folder / _OUTPUT).is_file():
        return _OUTPUT
    places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    counts = {place: sum(1 for path in place.glob(f"*{suffix}") if path.is_file()) for place in places}
    best = max(places, key=lambda place: counts[place])
    named_like_one = counts[best] and not (best == folder and {p.name for p in best.glob("*")} <= {"README.txt"})
    return str(best.relative_to(folder)) if named_like_one else None
