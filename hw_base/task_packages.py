"""Finding the task packages that lie beside this one, for programs of one task that are handed another's checkpoint."""

import importlib
import pkgutil
from pathlib import Path

PREFIX = "hw_"


def import_all() -> list[str]:
    """Import every package beside this one whose name begins like its own, which fills the registries.

    Returns:
        Their names, sorted.
    """
    folder = Path(__file__).resolve().parent.parent
    names = sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if m.ispkg and m.name.startswith(PREFIX))
    for name in names:
        importlib.import_module(name)
    return names


# Where each task says how its submissions are graded, see `hw_base.grading.contract`.
GRADING = {"asr": "hw_asr.evaluation.grading", "tts": "hw_tts.evaluation.grading"}
