"""How a grading can end."""

from enum import IntEnum

from hw_base.errors import HwError


class ExitCode(IntEnum):
    """Exit codes of ``python -m hw_base.grade``; the submission's faults and the grader's never share one."""

    GRADED = 0
    BELOW_THRESHOLD = 1
    USAGE = 2
    INVALID = 3
    CRASHED = 4
    TIME = 5
    SPACE = 6
    UNSAFE = 7
    GRADER = 8


# How a report names each of them.
STATUS = {
    ExitCode.GRADED: "graded",
    ExitCode.BELOW_THRESHOLD: "below threshold",
    ExitCode.USAGE: "wrong usage",
    ExitCode.INVALID: "submission invalid",
    ExitCode.CRASHED: "submission crashed",
    ExitCode.TIME: "out of time",
    ExitCode.SPACE: "out of memory or disk",
    ExitCode.UNSAFE: "refused as unsafe",
    ExitCode.GRADER: "grader failed",
}


class SubmissionError(HwError):
    """A submission that cannot be graded, and whose fault that is.

    Args:
        code: of the program.
        message: one line.
        limit: the one that was hit, if any.
    """

    def __init__(self, code: ExitCode, message: str, limit: str | None = None) -> None:
        super().__init__(message)
        self.exit_code = code
        self.limit = limit
