"""What a program that runs in this process prints."""

import contextlib
import io
import logging


def output_of(program):
    """The exit code of ``main(argv)`` and everything it wrote to the terminal."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = program()
    finally:
        root.setLevel(level)
        for handler in [one for one in root.handlers if one not in handlers]:
            root.removeHandler(handler)
    return code, said.getvalue()
