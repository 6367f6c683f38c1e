"""The program that draws alignments: of a config's data, and of checkpoints."""

import numpy as np
import pytest

from hw_tts import show_alignments
from hw_tts.evaluation import pictures
from tests.conftest import ROOT

pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib")
pillow = pytest.importorskip("PIL.Image", reason="Pillow reads the pictures back")

RUNS = ROOT / "tests" / "data" / "first_edition"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_program_draws_the_training_split(tmp_path, capsys):
    size = "data.train.datasets.0.args.n_utterances=2"
    config = str(ROOT / "configs" / "tiny" / "fastspeech2.json")
    assert show_alignments.main(["-c", config, "--limit", "1", "-o", str(tmp_path / "out"), "--set", size]) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_pitch_is_drawn_where_the_recording_is_voiced(tmp_path, monkeypatch):
    drawn = []

    def draw(panels, seconds):
        drawn.extend(panels)
        return pictures.speech_image(panels, seconds)

    monkeypatch.setattr(show_alignments, "speech_image", draw)
    size = "data.train.datasets.0.args.n_utterances=2"
    config = str(ROOT / "configs" / "tiny" / "fastspeech2.json")
    assert show_alignments.main(["-c", config, "--limit", "1", "-o", str(tmp_path / "out"), "--set", size]) == 0
    (panel,) = drawn
    assert 0.2 < float((panel.pitch > 0).float().mean()) < 0.95


@pytest.mark.parametrize("kind", ["fastspeech2", "vits2"])
def test_the_program_draws_how_a_checkpoint_aligns_and_speaks(tmp_path, capsys, kind):
    checkpoint = str(next((RUNS / kind).glob("checkpoint-*.pth")))
    size = "data.val.datasets.0.args.n_utterances=3"
    command = ["-r", checkpoint, "--limit", "2", "-o", str(tmp_path / "out"), "--set", size, "-d", "cpu"]
    assert show_alignments.main(command) == 0
    printed = capsys.readouterr().out.splitlines()
    names = sorted(path.name.partition(".")[2] for path in (tmp_path / "out").iterdir())
    assert names == ["alignment.png", "alignment.png", "spectrogram.png", "spectrogram.png"]
    assert len(printed) == 4
    for path in printed:
        assert np.array(pillow.open(path)).std() > 5


def test_what_has_no_alignments_ends_with_one_line(tmp_path, capsys):
    vocoder = str(next((RUNS / "hifigan").glob("checkpoint-*.pth")))
    tiny = str(ROOT / "configs" / "tiny" / "hifigan.json")
    for source in (["-c", "nowhere.json"], ["-c", tiny], ["-r", "nowhere.pth"], ["-r", vocoder]):
        assert show_alignments.main([*source, "-o", str(tmp_path)]) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        assert len(errors) == 1
    tts = str(next((RUNS / "fastspeech2").glob("checkpoint-*.pth")))
    assert show_alignments.main(["-r", tts, "-o", str(tmp_path), "--split", "vall"]) == 2
    assert "Did you mean" in capsys.readouterr().err
