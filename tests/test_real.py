"""Both tasks on real speech by one command: on a folder like LibriSpeech's, a few steps of each."""

import json

import pytest

from demo import real
from tests.conftest import ROOT


def test_without_data_it_says_why_and_does_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dev-clean").mkdir()
    assert real.main(["--data", str(tmp_path)]) == 0
    assert f"skipped: {tmp_path} has no train-clean-100, test-other" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["dev-clean"]


def test_a_program_that_fails_ends_the_others_and_is_named():
    programs = {"long": ["-c", "import time; time.sleep(60)"], "short": ["-c", "import sys; sys.exit(3)"]}
    with pytest.raises(real.ConfigError, match="short: ended with exit code 3"):
        real.together(programs)
    real.together({"stopped": ["-c", "import sys; sys.exit(75)"]}, allowed=(0, 75))


def test_what_make_looks_for_is_what_the_program_looks_for():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "DATA ?= ../shared/data\n" in makefile
    assert "-m demo.real --data $(DATA)\n" in makefile


@pytest.mark.slow
def test_both_are_trained_tested_and_reported(small_librispeech, capfd, monkeypatch):
    pytest.importorskip("plotly", reason="draws the report")
    monkeypatch.setenv("XDG_CACHE_HOME", str(small_librispeech / "cache"))
    small = ["trainer.log_every=1", "writers=[]"]
    folder = small_librispeech / "runs"
    arguments = ["--data", str(small_librispeech), "--run-dir", str(folder), "--asr-set", *small, "trainer.epochs=1"]
    arguments += ["model.args.n_hidden=16", "--tts-set", *small, "trainer.max_steps=2", "model.args.width=16"]
    assert real.main(arguments) == 0
    said = capfd.readouterr().out
    assert "asr, test-other, step " in said
    assert "tts, test, step 2: " in said
    assert all(f"{name} " in said for name in ("wer_argmax", "cer_argmax", "mcd"))
    assert len(list((folder / "tts" / "output_wavs" / "test").glob("*.wav"))) == 3
    assert (folder / "report.html").stat().st_size > 10000
    assert json.loads((folder / "asr" / "metrics.json").read_text())["output.json"]["step"] > 1
