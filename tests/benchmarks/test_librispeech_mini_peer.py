"""The peer on real speech: a few steps of SpeechBrain's recipes on a small folder in LibriSpeech's layout."""

import importlib.util
import json
import os
import signal
import threading
import time

import pytest

from benchmarks import librispeech_mini_peer as peer
from hw_base.errors import REQUEUE_EXIT_CODE

HERE = importlib.util.find_spec("speechbrain") is not None
needs_it = pytest.mark.skipif(not HERE, reason="speechbrain is not installed (requirements-bench.txt)")


@pytest.mark.skipif(HERE, reason="speechbrain is installed")
def test_without_speechbrain_it_says_what_to_install(tmp_path, capsys):
    assert peer.main(["-o", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == "error: not installed: speechbrain (pip install -r requirements-bench.txt)\n"
    assert not (tmp_path / "run").exists()


@needs_it
def test_without_data_it_says_so(tmp_path, capsys):
    assert peer.main(["-o", str(tmp_path / "run"), "--data", str(tmp_path)]) == 2
    assert f"expected the folder {tmp_path / 'train-clean-100'}" in capsys.readouterr().err


@needs_it
@pytest.mark.slow
@pytest.mark.parametrize("recipe", peer.RECIPES)
def test_an_ended_run_goes_on_and_its_test_split_is_scored(recipe, small_librispeech, capsys):
    run = small_librispeech / "run"
    arguments = ["--data", str(small_librispeech), "-o", str(run), "--recipe", recipe, "--greedy", "--max-steps", "4"]
    arguments += ["--lr", "0.002", "--batch-seconds", "12"]
    before = signal.getsignal(signal.SIGTERM)

    def end() -> None:
        while signal.getsignal(signal.SIGTERM) == before:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(SystemExit) as ended:
        peer.main(arguments)
    thread.join()
    assert ended.value.code == REQUEUE_EXIT_CODE
    assert "stopped at step 1;" in capsys.readouterr().out
    assert peer.main(arguments) == 0
    assert "resumed at step 1," in capsys.readouterr().out
    figures = json.loads((run / "figures.json").read_text())
    assert figures["steps"] == 4
    assert (figures["recipe"], figures["lr"], figures["batch_seconds"]) == (recipe, 0.002, 12.0)
    rows = json.loads((run / "output.json").read_text())
    assert {row["split"]: row["ground_truth"] for row in rows}["test-other"].islower()
    for split in ("val", "test-other"):
        own = [row for row in rows if row["split"] == split]
        references = {row["id"]: row["ground_truth"] for row in own}
        texts = {row["id"]: row["pred_text_greedy"] for row in own}
        assert figures[split]["greedy"] == peer.error_rates(references, texts)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    # The last step was taken at three quarters of the budget, in the middle of the fall.
    assert lines[-1]["step"] == 4
    assert lines[-1]["lr"] == pytest.approx(1e-3)
    assert peer.main(arguments) == 0
    assert len((run / "log.jsonl").read_text().splitlines()) == len(lines)
