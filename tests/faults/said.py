"""What a program that runs in this process prints."""

import contextlib
import io

from tests.conftest import logging_left_as_found


def output_of(program):
    """The exit code of ``main(argv)`` and everything it wrote to the terminal."""
    said = io.StringIO()
    with logging_left_as_found(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = program()
    return code, said.getvalue()
