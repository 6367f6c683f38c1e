"""The pages on homework: their commands, run line by line on small stand-ins for the data they name."""

import json

import pytest

from hw_base.datasets.librispeech import LibriSpeech
from tests import homework
from tests.conftest import ROOT

DOCS = ROOT / "docs"


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
