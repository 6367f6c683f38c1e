"""Both tasks on real speech by one command: on a folder like LibriSpeech's, a few steps of each."""

import json
import subprocess
import sys
import time
from pathlib import Path

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
    def fails(programs):
        programs.run("short", ["-c", "import sys; sys.exit(3)"])

    def lasts(programs):
        programs.run("long", ["-c", "import time; time.sleep(600)"])

    with pytest.raises(real.ConfigError, match="short: ended with exit code 3"):
        real.side_by_side([fails, lasts])
    stopped = ["-c", "import sys; print('said'); sys.exit(75)"]
    assert real.Programs().run("stopped", stopped, allowed=(0, 75), said=True) == "said\n"
    ended = real.Programs()
    ended.end()
    with pytest.raises(real.ConfigError, match="late: not started"):
        ended.run("late", ["-c", ""])


def test_a_signal_to_end_ends_the_programs_too(tmp_path):
    pid = tmp_path / "pid"
    child = f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(600)"
    code = f"from demo import real; real.side_by_side([lambda programs: programs.run('long', ['-c', {child!r}])])"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not pid.exists() or not pid.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) == 143
    assert not Path(f"/proc/{pid.read_text()}").exists()


def test_what_make_looks_for_is_what_the_program_looks_for():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "DATA ?= ../shared/data\n" in makefile
    assert "-m demo.real --data $(DATA) $(if $(RECOGNIZER),--recognizer $(RECOGNIZER))\n" in makefile


@pytest.mark.slow
def test_both_are_trained_tested_and_reported(small_librispeech, capfd, monkeypatch):
    pytest.importorskip("plotly", reason="draws the report")
    monkeypatch.setenv("XDG_CACHE_HOME", str(small_librispeech / "cache"))
    small = ["trainer.log_every=1", "writers=[]"]
    folder = small_librispeech / "runs"
    recognizer = [*small, "model.args.n_hidden=16"]
    arguments = ["--data", str(small_librispeech), "--run-dir", str(folder), "--minutes", "1"]
    arguments += ["--first-set", *recognizer, "trainer.epochs=1", "data.train.datasets.0.args.n_utterances=40"]
    arguments += ["--asr-set", *recognizer, "--tts-set", *small, "model.args.width=16"]
    assert real.main(arguments) == 0
    said = capfd.readouterr().out
    assert "asr, test-other, step " in said
    assert f"init_from={folder / 'first'}" in said
    assert "tts, test, step " in said
    assert all(f"{name} " in said for name in ("wer_argmax", "cer_argmax", "mcd"))
    assert len(list((folder / "tts" / "output_wavs" / "test").glob("*.wav"))) == 3
    assert (folder / "report.html").stat().st_size > 10000
    assert json.loads((folder / "asr" / "metrics.json").read_text())["output.json"]["step"] > 1
