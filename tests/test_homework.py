"""The pages on homework: their commands, run line by line on small stand-ins for the data they name."""

import json
import re
import sys

import pytest
import torch

from hw_base import checkpoint
from hw_base.datasets.librispeech import LibriSpeech
from hw_base.registry import MODELS
from tests import homework
from tests.conftest import ROOT

DOCS = ROOT / "docs"


@pytest.mark.parametrize("name", ["asr", "fastspeech", "vits2"])
def test_the_russian_page_has_the_same_commands_and_code(name):
    pages = [DOCS / f"homework_{name}.md", DOCS / "ru" / f"homework_{name}.md"]
    here, there = (homework.commands(page) for page in pages)
    assert here == there
    assert len(here) > 15
    codes = [re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL) for page in pages]
    assert codes[0] == codes[1]


@pytest.mark.slow
def test_every_command_of_the_page_on_recognition_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    homework.repository(tmp_path)
    homework.librispeech(tmp_path / "data" / "LibriSpeech", train=60, dev=6, clean=4, other=4)
    texts = [record.text for record in LibriSpeech("data/LibriSpeech", "train-clean-100").records]
    homework.upper_case_arpa(tmp_path / "data" / "3-gram.pruned.3e-7.arpa.gz", texts)
    for line in homework.commands(DOCS / "homework_asr.md"):
        homework.run_line(line)
    report = json.loads((tmp_path / "graded.json").read_text())
    assert report["status"] == "graded"


@pytest.mark.slow
def test_every_command_of_the_page_on_fastspeech_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    homework.repository(tmp_path)
    homework.ljspeech(tmp_path / "data", tmp_path / "texts")
    for line in homework.commands(DOCS / "homework_fastspeech.md"):
        homework.run_line(line)
    assert len(list((tmp_path / "course").glob("*.wav"))) == 28
    assert len(list((tmp_path / "course_hifigan").glob("*.wav"))) == 27
    assert (tmp_path / "spoken" / "first.wav").exists()


def written_by_the_student(page, folder):
    """The class that the page shows, in the package that it names."""
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    package = folder / "my_homework"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "conditioning.py").write_text(code, encoding="utf-8")


def forget_the_student():
    """Another test may have a package of this name too."""
    MODELS._entries.pop("ConditionedVITS2", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_homework"]:
        del sys.modules[name]


@pytest.fixture
def vits2(tmp_path, monkeypatch):
    """The files of the homework on VITS2; what the student's class registers is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    homework.repository(tmp_path)
    homework.public_vits2(tmp_path / "public")
    written_by_the_student(DOCS / "homework_vits2.md", tmp_path)
    forget_the_student()
    yield homework.commands(DOCS / "homework_vits2.md")
    forget_the_student()


@pytest.mark.slow
def test_every_command_of_the_page_on_vits2_runs(vits2, tmp_path):
    for line in vits2:
        homework.run_line(line)
    after = checkpoint.load(tmp_path / "runs" / "table" / "checkpoint-00000002.pth")
    before = checkpoint.load(tmp_path / "public.pth")
    assert after["task"]["speakers"] == ["0", "1", "2", "3", "4", "103", "104"]
    weights = after["model"]
    moved = [name for name, old in before["model"].items() if not torch.equal(old, weights[name][: len(old)])]
    assert all("emb_g" in name or "discriminator" in name for name in moved)
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(name in report for name in ("mean", "nearest", "table", "scratch", "own"))
    assert {path.name.partition("_")[0] for path in (tmp_path / "exported").glob("*.pth")} == {"G", "D", "DUR"}


def test_a_conditioning_of_ones_own_starts_as_the_public_checkpoint(vits2, tmp_path, caplog):
    """The import, and a step with the class of the page: the rest of the page runs in the slow tests."""
    chosen = [line for line in vits2 if "import_checkpoint public" in line or "--run-dir runs/own " in line]
    assert len(chosen) == 2
    with caplog.at_level("INFO"):
        for line in chosen:
            homework.run_line(line, [(r"train\.py", homework.ONE_STEP)])
    assert "start anew" in caplog.text
    after = checkpoint.load(tmp_path / "runs" / "own" / "checkpoint-00000001.pth")
    before = checkpoint.load(tmp_path / "public.pth")
    added = after["model"].keys() - before["model"].keys()
    assert {name.rpartition(".change.")[0] for name in added} == {"generator.emb_g"}
    assert len(added) == 4
    assert before["task"]["voices"].keys() == set(homework.OLD)
