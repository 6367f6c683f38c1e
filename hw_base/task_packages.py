"""Which package each task is in: what is imported where a config or a checkpoint names a task."""

import importlib

# A task is found here and nowhere else; a new one adds its line.
PACKAGES = {"asr": "hw_asr", "tts": "hw_tts", "vocoder": "hw_tts"}


# Where each task says how its submissions are graded, see `hw_base.grading.contract`.
GRADING = {"asr": "hw_asr.evaluation.grading", "tts": "hw_tts.evaluation.grading"}

# Where each task says what a report shows of its runs, see `hw_base.reports.contract`.
REPORTS = {"asr": "hw_asr.evaluation.report", "tts": "hw_tts.evaluation.report", "vocoder": "hw_tts.evaluation.report"}

# Where each task says what the demo shows of its checkpoints, see `hw_base.demos.contract`.
DEMOS = {"asr": "hw_asr.evaluation.demo", "tts": "hw_tts.evaluation.demo"}

# Where each task says what graphs are made of its checkpoints, see `hw_base.exports.contract`.
EXPORTS = {"asr": "hw_asr.evaluation.export", "tts": "hw_tts.evaluation.export"}

# Where each task keeps what a package of one's own begins with, in the folder ``starter``, see `hw_base.new`.
STARTERS = {"asr": "hw_asr", "tts": "hw_tts"}


def import_task(name: object) -> None:
    """Import the package of a task, which fills the registries; a name that is no task's imports nothing."""
    if isinstance(name, str) and name in PACKAGES:
        importlib.import_module(PACKAGES[name])


def import_all() -> None:
    """Import the packages of all tasks, for programs that look at everything there is."""
    for name in PACKAGES:
        import_task(name)
