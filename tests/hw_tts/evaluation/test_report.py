"""What a report of synthesis shows of outputs with and without metrics of single utterances."""

import pytest
import torch

from hw_base.audio import io as audio
from hw_base.reports.contract import Page
from hw_base.reports.language import Language
from hw_base.reports.media import MediaStore
from hw_base.reports.record import Output, Run
from hw_tts.evaluation.report import TTSReport


@pytest.fixture
def run(tmp_path):
    audio.save(tmp_path / "u1.wav", torch.rand(8000) - 0.5, 16000)

    def make(name, **measured):
        row = {"id": "u1", "split": "test", "text": "ten keys", "audio_path": str(tmp_path / "u1.wav"), **measured}
        return Run(tmp_path / name, name, {}, [], [Output(tmp_path / name / "output.json", [row], {})])

    return make


def titles(*runs):
    found = TTSReport().sections(runs, Page(MediaStore(10**7), Language()))
    return {section.title: section.blocks for section in found}


def test_a_run_without_metrics_is_heard_beside_runs_that_have_them(run):
    shown = titles(run("new", metrics={"mcd": 5.0}), run("old"))
    assert "Worst utterances" in shown
    (old,) = shown["Synthesis of the test splits"]
    assert old.title == "old, output.json"


def test_runs_that_all_have_metrics_are_ranked_alone(run):
    shown = titles(run("new", metrics={"mcd": 5.0}), run("other", metrics={"mcd": 6.0}))
    assert "Worst utterances" in shown
    assert "Synthesis of the test splits" not in shown
