# PYTHON_ARGCOMPLETE_OK
"""Train a model: ``python train.py -c configs/ds2.json``; ``python train.py --help`` lists everything."""

import hw_asr  # noqa: F401 - fills the registries
import hw_tts  # noqa: F401
from hw_base.runs.cli import leave
from hw_base.runs.cli import train_main as main

if __name__ == "__main__":
    leave(main())
