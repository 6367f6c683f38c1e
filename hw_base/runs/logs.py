"""Log lines: plain on the console, dated in the run's ``train.log``."""

import logging
import sys
from pathlib import Path
from typing import Any

from hw_base import distributed
from hw_base.errors import ConfigError


class _Console(logging.Handler):
    """Prints through tqdm, so that a line never cuts a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if sys.stderr.isatty():
                from tqdm import tqdm

                tqdm.write(text, file=sys.stderr)
            else:
                print(text, file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"


def _ours(record: logging.LogRecord) -> bool:
    """This project's packages all begin with ``hw_``; of others only warnings are shown."""
    # A module that `python -m` runs is called `__main__`.
    return record.levelno >= logging.WARNING or record.name.startswith(("hw_", "__main__"))


def start() -> None:
    """Show this project's lines on the console; of several processes only the main one's, and others' warnings."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _Console):
            root.removeHandler(handler)
    console = _Console()
    console.setFormatter(_Plain("%(message)s"))
    console.setLevel(logging.INFO if distributed.is_main() else logging.WARNING)
    console.addFilter(_ours)
    root.addHandler(console)
    root.setLevel(logging.INFO)


class _File(logging.FileHandler):
    """A log file that says once, and without a traceback, that it cannot be written."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is that of `logging`
        if not self.failed:
            print(f"warning: {self.baseFilename}: cannot be written: {sys.exc_info()[1]}", file=sys.stderr)
        self.failed = True

    def close(self) -> None:
        try:
            super().close()
        except OSError as error:
            print(
                f"warning: {self.baseFilename}: its last lines could not be written: {error.strerror}", file=sys.stderr
            )


def to_file(path: Path) -> Any:
    """Also write to a file, from now until the returned handler is given to `stop`.

    Raises:
        ConfigError: it cannot be opened.
    """
    try:
        handler = _File(path, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--run-dir {path.parent}: {path.name} cannot be written: {error.strerror}") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(_ours)
    logging.getLogger().addHandler(handler)
    return handler


def stop(handler: Any) -> None:
    """Close what `to_file` opened."""
    logging.getLogger().removeHandler(handler)
    handler.close()
