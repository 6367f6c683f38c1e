"""What a user can get wrong. Entry scripts print these in plain lines and exit with code 2; anything else is a bug."""

import signal
import sys

# "Temporary failure, try again" of sysexits.h: what a job script looks for to queue the job again.
REQUEUE_EXIT_CODE = 75


class HwError(Exception):
    """Base of every error whose message is meant for the user: where, what was found, what to do."""

    exit_code = 2


class ConfigError(HwError):
    """Everything that is wrong with a config, one line each."""


class DataError(HwError):
    """Audio, text or an index that cannot be used; the message names the utterance or file."""


class CheckpointError(HwError):
    """A checkpoint that is missing, damaged, hostile or made for another model."""


# Packages that have no build for later versions of Python.
_NEWEST_PYTHON = {"flashlight-text": (3, 12), "kenlm": (3, 12)}


class MissingPackageError(HwError):
    """An optional package is needed by a component that the config names."""

    def __init__(self, component: str, package: str) -> None:
        newest = _NEWEST_PYTHON.get(package)
        remedy = f"pip install {package}"
        if newest is not None and sys.version_info[:2] > newest:
            remedy = (
                f"it has no build for Python {sys.version_info[0]}.{sys.version_info[1]}, use {newest[0]}.{newest[1]}"
            )
        super().__init__(f"{component} needs the package {package!r}, which is not installed: {remedy}")


class DivergedError(HwError):
    """Training cannot continue: losses or gradients are repeatedly not finite."""

    exit_code = 3


class DisagreementError(HwError):
    """Processes that train together do not hold, or do not train, the same weights."""

    exit_code = 3


class ProcessLostError(HwError):
    """Another process that trains together with this one is gone, or hangs: the job may be started again."""

    exit_code = REQUEUE_EXIT_CODE


class InterruptedRun(HwError):  # noqa: N818 - it is what was asked for, not an error
    """A signal asked the run to end; everything is saved."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = REQUEUE_EXIT_CODE if signal_number == signal.SIGUSR1 else 128 + signal_number
