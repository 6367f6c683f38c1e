"""A run whose reading worker is killed or raises: it names the utterance, saves, and resumes to the bit."""

import functools
import os
import re
import signal

import pytest

from hw_base import checkpoint
from hw_base.audio import io as audio
from hw_base.training.trainer import BaseTrainer
from tests.conftest import same
from tests.hw_base.runs import tiny

SETS = ["--set", "writers=[]", "data.train.workers=1", "trainer.save_every=100"]
FAULTY = "00003.wav"


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def raising():
    raise MemoryError("no more")


train = functools.partial(tiny.train, SETS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that loses no worker."""
    return tiny.trained(SETS, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize(("harm", "cause"), [(killed, "it was killed"), (raising, "MemoryError: no more")])
def test_a_run_whose_worker_is_lost_names_the_utterance_saves_and_resumes_to_the_bit(
    harm, cause, whole, tmp_path, monkeypatch, capsys
):
    due, main, load, train_step = tmp_path / "due", os.getpid(), audio.load, BaseTrainer.train_step

    def loaded(path, *arguments, **options):
        if due.exists() and os.getpid() != main and "train" in str(path) and str(path).endswith(FAULTY):
            harm()
        return load(path, *arguments, **options)

    def step(self, batch):
        due.touch()  # the worker of the first epoch is ahead: it is met there or in the second
        train_step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(audio, "load", loaded)
        patch.setattr(BaseTrainer, "train_step", step)
        assert train(tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert re.search(rf"error: train: .*'train-00003'.*{cause}", error), error
    (saved,) = checkpoint.numbered(tmp_path / "run")
    assert 0 < checkpoint.step_of(saved) < 8
    assert train(tmp_path / "run", "-r", "auto") == 0
    last = checkpoint.load(tmp_path / "run" / "checkpoint-00000008.pth")
    assert all(same(whole[part], last[part]) for part in ("model", "optimizations", "rng"))
