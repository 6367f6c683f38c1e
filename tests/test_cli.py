"""The two commands as a user types them: files, exit codes, messages."""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

import test as test_script
import train as train_script
from hw_base import checkpoint, distributed
from hw_base.runs import train as training
from hw_base.runs.experiment import precision
from tests.conftest import ROOT, same

TINY = str(ROOT / "configs" / "tiny" / "ds2.json")
UNTIMED = ("steps_per_second", "data_wait")


def train(*arguments):
    return train_script.main(["-c", TINY, "-d", "cpu", *map(str, arguments)])


def rows(folder):
    kept = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in UNTIMED} for row in kept]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "tiny"
    assert train("--run-dir", folder) == 0
    return folder


def test_a_run_folder_holds_what_the_readme_says(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"config.json", "metrics.jsonl", "train.log", "model_best.pth", "checkpoint-00000008.pth"} <= names
    assert len(checkpoint.numbered(trained)) == 2
    assert json.loads((trained / "machine.json").read_text())["torch"] == torch.__version__
    said = (trained / "train.log").read_text()
    assert "device: cpu (1 threads); precision: " in said
    assert re.search(r"step 4/8: loss .*, \d+:\d\d:\d\d left", said)
    saved = json.loads((trained / "config.json").read_text())
    assert saved["model"]["args"]["time_stride"] == 2
    assert saved == checkpoint.load(trained / "model_best.pth")["config"]
    train_rows = [row for row in rows(trained) if row["split"] == "train" and "ctc" in row]
    assert [row["step"] for row in train_rows] == [2, 4, 6, 8]
    assert {"ctc", "loss", "grad_norm", "lr", "epoch", "skipped_updates"} <= train_rows[0].keys()
    val = [row for row in rows(trained) if row["split"] == "val" and "wer" in row]
    assert [row["step"] for row in val] == [4, 8]
    assert val[0]["wer"] == val[0]["wer_argmax"]
    table = next(row for row in rows(trained) if row.get("table") == "predictions")
    assert table["columns"] == ["id", "decoder", "target", "prediction", "wer", "cer"]
    assert len(table["rows"]) == 2


def test_an_existing_run_is_not_touched(trained, capsys):
    before = sorted((path.name, path.stat().st_size) for path in trained.iterdir())
    assert train("--run-dir", trained) == 2
    assert "holds a run already; add -r auto to continue it" in capsys.readouterr().err
    assert sorted((path.name, path.stat().st_size) for path in trained.iterdir()) == before


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_run_ends_bit_equal(trained, tmp_path, workers):
    """In mid-epoch (an epoch has three batches), with augmentation noise, with and without workers."""
    folder = tmp_path / "run"
    many = ["--set", f"data.train.workers={workers}"]
    assert train("--run-dir", folder, "--set", "trainer.max_steps=8", "--set", "trainer.save_every=5", *many) == 0
    for path in folder.glob("checkpoint-00000008.pth"):
        path.unlink()
    assert train("--run-dir", folder, "-r", "auto", "--set", "trainer.save_every=5", *many) == 0
    one = checkpoint.load(trained / "checkpoint-00000008.pth")
    other = checkpoint.load(folder / "checkpoint-00000008.pth")
    other["config"] = one["config"]
    assert same(one, other)
    assert rows(trained) == rows(folder)


def test_resuming_needs_only_the_checkpoint(trained, tmp_path):
    copy = tmp_path / "elsewhere" / "checkpoint-00000008.pth"
    copy.parent.mkdir()
    shutil.copy(trained / copy.name, copy)
    assert train_script.main(["-r", str(copy), "-d", "cpu", "--set", "trainer.max_steps=10"]) == 0
    assert checkpoint.load(copy.with_name("checkpoint-00000010.pth"))["step"] == 10


def test_a_damaged_newest_checkpoint_is_passed_over(trained, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    newest = folder / "checkpoint-00000008.pth"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 4
    newest.write_bytes(content)
    assert train("--run-dir", folder, "-r", "auto") == 0
    assert "damaged, its content does not match its checksum" in capsys.readouterr().err
    assert same(checkpoint.load(newest), checkpoint.load(trained / newest.name))


def test_lr_and_bs_really_change_what_is_used(tmp_path):
    assert train("--run-dir", tmp_path / "a", "--lr", "0.5", "--bs", "6", "--set", "trainer.max_steps=2") == 0
    row = next(row for row in rows(tmp_path / "a") if "lr" in row)
    assert row["epoch"] == 1.0  # two batches of 6
    group = checkpoint.load(tmp_path / "a" / "model_best.pth")["optimizations"]["model"]["optimizer"]["param_groups"][0]
    assert group["max_lr"] == 0.5
    assert group["initial_lr"] == pytest.approx(0.5 / 25)


def test_errors_are_lines_with_exit_code_2(tmp_path, capsys):
    for arguments, expected in [
        (["-c", str(tmp_path / "none.json")], "none.json: no such file"),
        (["-c", TINY, "--set", "trainer.maxsteps=1"], "trainer.maxsteps: unknown key. Did you mean 'max_steps'?"),
        ([], "nothing to train: give a config with -c, or a checkpoint with -r"),
        (["-r", str(tmp_path / "none.pth")], "none.pth: no such file"),
        (["-r", "auto", "--run-dir", str(tmp_path / "no")], "holds no checkpoint, and there is no -c CONFIG"),
        (["-c", TINY, "-d", "gpu"], "--device gpu: expected auto, cpu, cuda"),
        (["-c", TINY, "-d", "mps"], "--device mps: this machine has no Apple GPU that torch can use"),
        (["-c", TINY, "-d", "cuda:99"], "--device cuda:99: this machine has"),
        (["-c", TINY, "--set", "init_from=x.pth", "--run-dir", str(tmp_path / "i")], "x.pth: no such file"),
    ]:
        assert train_script.main(arguments) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, (arguments, errors)
        assert expected in errors[0]
    assert not (tmp_path / "i" / "metrics.jsonl").exists()


def test_apples_gpu_is_chosen_by_name_alone(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert distributed.choose_device("mps").type == "mps"
    assert distributed.choose_device("auto").type != "mps"
    assert precision("auto", torch.device("mps")) is None


def test_unknown_options_and_abbreviations_are_refused(capsys):
    for arguments in (["--conf", TINY], ["-c", TINY, "--lr", "-1"], ["-c", TINY, "--bs", "0"]):
        with pytest.raises(SystemExit) as caught:
            train_script.main(arguments)
        assert caught.value.code == 2
    capsys.readouterr()


def test_print_config_is_a_config(tmp_path, capsys):
    assert train("--print-config", "--set", "seed=4") == 0
    printed = tmp_path / "printed.json"
    printed.write_text(capsys.readouterr().out)
    assert train_script.main(["-c", str(printed), "--print-config"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(printed.read_text())


def test_dry_run_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert train("--dry-run") == 0
    assert list(tmp_path.iterdir()) == []
    said = capsys.readouterr().err
    assert "batch['spectrogram']: (4, 40," in said
    assert "parameters of 'model'" in said
    assert "training would take 8 steps" in said


def test_one_batch_ends_with_a_verdict(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--set", "data.train.batch_size=2", "--set", "augmentations=[]"]
    assert train("--one-batch", "--set", "trainer.max_steps=1", "--lr", "0.02", *small) == 0  # its length is its own
    said = capsys.readouterr().err
    assert "one batch: learned: loss" in said
    target, prediction = (
        next(line for line in said.splitlines() if line.startswith(f"  {name}:")) for name in ("target", "prediction")
    )
    assert len(prediction.split(":")[1].strip()) > 0.5 * len(target.split(":")[1].strip())
    monkeypatch.setattr(training, "ONE_BATCH_STEPS", 5)
    assert train("--one-batch", *small) == 2
    assert "one batch: NOT learned: loss" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- test.py


def test_predictions_of_a_checkpoint(trained, tmp_path, capsys):
    output = tmp_path / "out" / "output.json"
    arguments = [
        "-r",
        str(trained / "model_best.pth"),
        "-d",
        "cpu",
        "-o",
        str(output),
        "--predictions",
        str(tmp_path / "p"),
    ]
    assert test_script.main(arguments) == 0
    written = json.loads(output.read_text())
    assert [row["id"] for row in written] == [f"test-{i:05d}" for i in range(5)]
    needed = {"id", "audio_path", "ground_truth", "ground_trurh", "pred_text_argmax", "pred_text_beam_search"}
    assert all(needed <= row.keys() and row["ground_truth"] == row["ground_trurh"] for row in written)
    figures = json.loads((output.parent / "metrics.json").read_text())["output.json"]
    assert (figures["checkpoint"], figures["decoder"]) == (str(trained / "model_best.pth"), "argmax")
    assert figures["splits"].keys() == {"test"}
    assert figures["splits"]["test"].keys() == {"wer_argmax", "cer_argmax"}
    assert {path.name for path in (tmp_path / "p").iterdir()} == {f"test-{i:05d}.txt" for i in range(5)}
    assert (tmp_path / "p" / "test-00003.txt").read_text() == written[3]["pred_text_argmax"] + "\n"
    assert "said:" in capsys.readouterr().out
    first = output.read_bytes()
    assert test_script.main([*arguments, "-b", "1", "-j", "1"]) == 0
    assert [row["pred_text_argmax"] for row in json.loads(output.read_text())] == [
        r["pred_text_argmax"] for r in written
    ]
    assert len(output.read_bytes()) == len(first)


def test_a_folder_of_recordings(trained, tmp_path):
    audio, texts = tmp_path / "data" / "audio", tmp_path / "data" / "transcriptions"
    audio.mkdir(parents=True)
    texts.mkdir()
    rows = json.loads((_predict(trained, tmp_path / "first.json")).read_text())
    for row in rows[:3]:
        shutil.copy(row["audio_path"], audio / f"{row['id']}.wav")
    for row in rows[:2]:
        (texts / f"{row['id']}.txt").write_text(row["ground_truth"].upper() + "\n")
    again = json.loads(_predict(trained, tmp_path / "second.json", "-t", str(tmp_path / "data")).read_text())
    assert [(r["id"], r["ground_truth"], r["pred_text_argmax"]) for r in again] == [
        (row["id"], row["ground_truth"].upper() if i < 2 else None, row["pred_text_argmax"])
        for i, row in enumerate(rows[:3])
    ]
    shutil.rmtree(texts)
    third = json.loads(_predict(trained, tmp_path / "third.json", "-t", str(tmp_path / "data")).read_text())
    assert all(row["ground_truth"] is None for row in third)
    config = _predict(trained, tmp_path / "fourth.json", "-c", TINY, "-t", str(tmp_path / "data"))
    assert json.loads(config.read_text()) == third, "the folder counts, also where -c has data of its own"
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert figures["third.json"]["splits"] == {"test": {}}
    assert figures["second.json"]["splits"]["test"].keys() == {"wer_argmax", "cer_argmax"}


def _predict(trained, output, *arguments):
    assert test_script.main(["-r", str(trained / "model_best.pth"), "-d", "cpu", "-o", str(output), *arguments]) == 0
    return output


def test_test_errors(trained, tmp_path, capsys):
    best = str(trained / "model_best.pth")
    for arguments, expected in [
        (["-r", str(tmp_path / "none.pth")], "no such file"),
        (["-r", best, "-t", str(tmp_path / "nothing")], "nothing"),
        (["-r", best, "-o", "/proc/x/output.json"], "cannot be written"),
        (["-r", best, "--set", "decoders.argmax=Gready"], "decoders.argmax.type: no decoder is named 'Gready'"),
        (["-r", best, "--set", "model.args.n_hidden=32"], "made for another model"),
    ]:
        assert test_script.main([*arguments, "-d", "cpu"]) == 2
        assert expected in capsys.readouterr().err


# ---------------------------------------------------------------- real processes and real signals


def start(folder, *arguments):
    command = [sys.executable, "train.py", "-c", TINY, "-d", "cpu", "--run-dir", str(folder), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(folder, step):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = checkpoint.numbered(folder)
        if found and found[0] >= checkpoint.path_of(folder, step):
            return
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint of step {step} in {folder}")


LONG = ("--set", "trainer.max_steps=100000", "--set", "trainer.save_every=2", "--set", "trainer.eval_every=50000")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends(tmp_path, number, code):
    process = start(tmp_path / "run", *LONG, "--set", "data.train.workers=1")
    wait_for(tmp_path / "run", 2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert "interrupted at step" in output
    newest = checkpoint.load(checkpoint.numbered(tmp_path / "run")[0])
    assert f"interrupted at step {newest['step']}" in output


@pytest.mark.slow
def test_25_kills_lose_no_checkpoint_and_the_run_goes_on(tmp_path):
    folder = tmp_path / "run"
    moments = random.Random(0)
    last = 0
    for kill in range(25):
        process = start(folder, *LONG, *(["-r", "auto"] if kill else []))
        wait_for(folder, last + 2)
        time.sleep(moments.uniform(0.0, 0.5))
        process.kill()
        process.communicate()
        for path in [*checkpoint.numbered(folder), folder / "model_best.pth"]:
            if path.exists():
                checkpoint.load(path)
        last = checkpoint.load(checkpoint.newest_good(folder))["step"]
    assert last >= 50
    steps = [row["step"] for row in rows(folder) if row["split"] == "train" and "ctc" in row and row["step"] <= last]
    assert steps == list(range(2, max(steps) + 1, 2))


def test_two_runs_cannot_share_a_folder(tmp_path, capsys):
    process = start(tmp_path / "run", *LONG)
    wait_for(tmp_path / "run", 2)
    assert train("--run-dir", tmp_path / "run", "-r", "auto") == 2
    assert "another process is training in this folder" in capsys.readouterr().err
    process.kill()
    process.communicate()


def test_a_checkpoint_opens_no_files_of_its_own_choice(trained, tmp_path, caplog, capsys):
    """Language models, recognizers, caches and downloads that its config names; the command line may name them."""
    state = checkpoint.load(trained / "model_best.pth")
    state["config"]["decoders"]["beam"] = {"type": "BeamSearch", "args": {"lm": str(tmp_path / "secret")}}
    state["config"]["decoder"] = "beam"
    test = state["config"]["data"]["test"]["datasets"][0]["args"]
    test["cache_dir"] = str(tmp_path / "filled")
    hostile = tmp_path / "hostile.pth"
    checkpoint.save(hostile, state)
    arguments = ["-r", str(hostile), "-d", "cpu", "-o", str(tmp_path / "out.json")]
    assert test_script.main(arguments) == 0
    assert "not opened unless -c or --set gives them: " in caplog.text + capsys.readouterr().err
    assert not (tmp_path / "filled").exists()
    assert test_script.main([*arguments, "--set", f"decoders.beam.args.lm={tmp_path / 'mine'}"]) == 2
    assert "mine" in capsys.readouterr().err
