"""Pictures of alignments: what is drawn where, and the program."""

import numpy as np
import pytest
import torch

from hw_tts import show_alignments
from tests.conftest import ROOT

matplotlib = pytest.importorskip("matplotlib")
image = pytest.importorskip("matplotlib.image")


def test_boundaries_lie_where_the_sound_changes(tmp_path):
    spectrogram = torch.zeros(20, 100)
    spectrogram[:, 50:] = 5.0
    rows = []
    for phones in ([["a", 0, 1.0]], [["a", 0, 0.495], ["b", 0.495, 1.0]]):  # frame 50 begins half a frame before 0.5 s
        show_alignments.draw(tmp_path / "a.png", spectrogram, 0.01, phones, torch.full((100,), 120.0), "x")
        picture = image.imread(tmp_path / "a.png")[:, :, :3]
        rows.append(picture[picture.shape[0] // 3, 100:-50])  # within the spectrogram, without its frame
    step = np.abs(np.diff(rows[0], axis=0)).max(1).argmax()
    drawn = np.flatnonzero(np.abs(rows[0] - rows[1]).max(1) > 0.05)
    assert len(drawn) > 0
    assert np.abs(drawn - step).max() <= 2


def test_without_pitch_or_with_odd_names(tmp_path):
    phones = [["$x^2", 0, 0.1], [" ", 0.1, 0.1], ["", 0.1, 0.3]]
    show_alignments.draw(tmp_path / "new" / "a.png", torch.randn(5, 30), 0.01, phones, None, "costs $5 or $6_7")
    show_alignments.draw(tmp_path / "b.png", torch.randn(5, 30), 0.01, phones, torch.zeros(30))
    assert (tmp_path / "new" / "a.png").stat().st_size > 1000


def test_the_program_draws_the_training_split(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    size = "data.train.datasets.0.args.n_utterances=2"
    config = str(ROOT / "configs" / "tiny" / "fastspeech2.json")
    assert show_alignments.main(["-c", config, "--limit", "1", "-o", str(tmp_path / "out"), "--set", size]) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 1
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_config_of_another_kind_ends_with_one_line(tmp_path, capsys):
    for changed in ("nowhere.json", str(ROOT / "configs" / "tiny" / "hifigan.json")):
        assert show_alignments.main(["-c", changed, "-o", str(tmp_path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
