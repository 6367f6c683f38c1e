"""Packing the miniature of LibriSpeech and training on it, whole, with a small folder in its layout and three steps."""

import json

import pytest
import torch

from benchmarks import gpu_mini
from hw_base.audio import io as audio
from hw_base.datasets.shards import Shards

CONFIG = "configs/librispeech_mini/ds2.json"


@pytest.fixture
def packed(small_librispeech):
    pytest.importorskip("webdataset", reason="packs the recordings")
    folder = small_librispeech / "packed"
    command = ["pack", str(folder), "--data", str(small_librispeech), "-c", str(gpu_mini.ROOT / CONFIG)]
    assert gpu_mini.main([*command, "--megabytes", "2"]) == 0
    return folder


def test_test_recordings_stay_and_others_are_made_small(packed, small_librispeech, capsys):
    sizes = {name: 0 for name in ("train", "val", "test-other")}
    for name in sizes:
        dataset = Shards(str(packed / name))
        for record in dataset.records:
            (file,) = small_librispeech.glob(f"LibriSpeech/*/*/*/{record.utterance_id}.flac")
            waveform, rate = dataset.read(record)
            original, _ = audio.load(file)
            assert rate == 16000
            assert torch.equal(waveform, original) == (name == "test-other")
            assert abs(len(waveform) - len(original)) <= 1
            sizes[name] += record.extra["member"][1] / file.stat().st_size / len(dataset.records)
    assert sizes["test-other"] == pytest.approx(1)
    assert max(sizes["train"], sizes["val"]) < 0.6
    assert sum(file.stat().st_size for file in packed.rglob("*.*")) < 2e6
    command = ["pack", str(packed), "--data", str(small_librispeech)]
    assert gpu_mini.main(command) == 2
    assert "exists already" in capsys.readouterr().err
    command[1] = str(packed / "other")
    assert gpu_mini.main([*command, "--megabytes", "0.1"]) == 2
    assert "MB, more than --megabytes 0.1" in capsys.readouterr().err


def test_without_a_gpu_it_trains_on_a_cpu_only_if_told_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_mini.main(["train", str(tmp_path), "-o", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == "error: no GPU was found; --device cpu trains on the processor\n"
    assert gpu_mini.main(["train", str(tmp_path), "-o", str(tmp_path / "run"), "--device", "cpu"]) == 2
    assert "has no train, val, test-other; python -m benchmarks.gpu_mini pack" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_it_trains_tests_and_leaves_its_figures(packed, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = tmp_path / "run"
    small = ["--set", "model.args.n_hidden=16", "data.train.batch_size=4", "trainer.preflight=false"]
    command = ["train", str(packed), "-o", str(run), "--device", "cpu", "-c", str(gpu_mini.ROOT / CONFIG), *small]
    assert gpu_mini.main([*command, "--max-steps", "3"]) == 0
    figures = json.loads((run / "figures.json").read_text())
    assert figures["steps"] == 3
    assert figures["ended_early"] is False
    assert 0 < figures["best_step"] <= 3
    assert figures["figures"].keys() == {"test-other"}
    assert {"wer_argmax", "cer_argmax"} <= figures["figures"]["test-other"].keys()
    assert len(json.loads((run / "output.json").read_text())) == 3
    # The pace is measured on the same data; where it leaves no time, that is said before anything is trained.
    again = [*command[:3], str(tmp_path / "again"), *command[4:]]
    assert gpu_mini.main([*again, "--minutes", "0.001"]) == 2
    assert "error: --minutes 0.001: no time is left to train after the start" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()
