# PYTHON_ARGCOMPLETE_OK
"""Evaluate a checkpoint: ``python test.py -r checkpoint.pth``; ``python test.py --help`` lists everything."""

import sys

import hw_asr  # noqa: F401 - fills the registries
import hw_tts  # noqa: F401
from hw_base.runs.cli import evaluate_main as main

if __name__ == "__main__":
    sys.exit(main())
