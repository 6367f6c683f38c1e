"""The tiny run that tests of this folder disturb."""

import train as train_script
from hw_base import checkpoint
from tests.conftest import ROOT

CONFIG = str(ROOT / "configs" / "tiny" / "ds2.json")


def train(sets, folder, *arguments):
    """Train into a folder; the exit code."""
    return train_script.main(["-c", CONFIG, "-d", "cpu", "--run-dir", str(folder), *sets, *arguments])


def trained(sets, folder):
    """The last checkpoint of a run that nothing disturbs."""
    assert train(sets, folder) == 0
    return checkpoint.load(folder / "checkpoint-00000008.pth")
