"""The comparison of ways to learn new voices: one budget, one table, one picture, audio of every stage."""

import json

import pytest
import torch

import train as train_script
from hw_base import checkpoint, registry
from hw_base.config import read as config_files
from hw_base.config import resolve as config
from hw_base.training.freezing import plan
from hw_tts import compare_finetunings
from hw_tts.compare_finetunings import STRATEGIES, read_curves
from tests.conftest import ROOT

TINY = ROOT / "configs" / "tiny" / "vits2.json"
VOICES = ["en-us+m3", "en-us+m4"]


@pytest.fixture(scope="module")
def finetuning(tmp_path_factory):
    """A config of a fine-tuning to two voices of a model that knows two others."""
    folder = tmp_path_factory.mktemp("finetuning")
    sets = ["--set", "metrics={}", "--set", "trainer.max_steps=2"]
    assert train_script.main(["-c", str(TINY), "--run-dir", str(folder / "run"), "-d", "cpu", *sets]) == 0
    tree = json.loads(TINY.read_text())
    tree["init_from"] = str(folder / "run" / "checkpoint-00000002.pth")
    tree["trainer"] |= {"max_steps": 2, "eval_every": 1, "log_every": 2}
    for split in tree["data"].values():
        split["datasets"][0]["args"] |= {"voices": VOICES}
    path = folder / "finetune.json"
    path.write_text(json.dumps(tree))
    return path


def compare(path, *more):
    return compare_finetunings.main(["-c", str(path), "-d", "cpu", *more])


def test_strategies_are_compared_under_one_budget(finetuning, tmp_path, capsys):
    arguments = ["-s", "nearest,scratch", "-o", str(tmp_path / "out")]
    assert compare(finetuning, *arguments) == 0
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert set(table) == {"nearest", "scratch"}
    epochs = [0.0, 1 / 12, 2 / 12]  # before training, and after each step of an epoch of twelve
    for curves in table.values():
        for key in ("val/log_mel_l1", *(f"val/log_mel_l1/{voice}" for voice in VOICES)):
            assert [epoch for epoch, _ in curves[key]] == pytest.approx(epochs)
    for name in table:
        heard = {path.name for path in (tmp_path / "out" / name / "media").rglob("*.wav")}
        for step in range(3):
            assert any(f"{step:08d}" in name and "synthesized" in name for name in heard), (step, heard)
    state = checkpoint.load(tmp_path / "out" / "scratch" / "checkpoint-00000002.pth")
    assert state["task"]["speakers"] == VOICES
    written = (tmp_path / "out" / "table.md").read_text()
    assert "| strategy | val/log_mel_l1, first | val/log_mel_l1, last |" in written
    assert "| strategy | val/log_mel_l1/en-us+m3 | val/log_mel_l1/en-us+m4 |" in written
    assert written.count("| nearest |") == written.count("| scratch |") == 2
    assert (tmp_path / "out" / "metrics.png").read_bytes().startswith(b"\x89PNG")
    assert compare(finetuning, *arguments) == 0  # a finished comparison only reports again
    assert json.loads((tmp_path / "out" / "table.json").read_text()) == table


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-s", "nearst"], "Did you mean 'nearest'"),
        (["-s", "nearest", "--set", "metrics={}"], "strategy nearest: nothing to compare by: give metrics"),
        (["-s", "nearest", "--set", "init_from=null"], "new_speakers: needs the checkpoint that they are added to"),
    ],
)
def test_mistakes_are_one_line(finetuning, tmp_path, capsys, flags, message):
    assert compare(finetuning, *flags, "-o", str(tmp_path / "out")) == 2
    (error,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert message in error


def test_every_strategy_is_checked_before_the_first_is_trained(finetuning, tmp_path, capsys):
    """As with an imported checkpoint, whose old voices were not measured: the second strategy cannot work."""
    tree = json.loads(finetuning.read_text())
    state = checkpoint.load(tree["init_from"])
    state["task"]["voices"] = {}
    checkpoint.save(tmp_path / "unmeasured.pth", state)
    tree["init_from"] = str(tmp_path / "unmeasured.pth")
    (tmp_path / "finetune.json").write_text(json.dumps(tree))
    assert compare(tmp_path / "finetune.json", "-s", "mean,nearest", "-o", str(tmp_path / "out")) == 2
    assert "strategy nearest: new_speakers: the checkpoint holds no measurements" in capsys.readouterr().err
    assert not (tmp_path / "out" / "mean").exists()


def test_strategies_of_ones_own(finetuning, tmp_path, capsys):
    more = tmp_path / "more.json"
    more.write_text(json.dumps({"slow": ["optimizers.generator.args.lr=0.00001"]}))
    budget = ["--set", "trainer.max_steps=1"]
    assert compare(finetuning, "-s", "slow", "--more", str(more), *budget, "-o", str(tmp_path / "out")) == 0
    assert "| slow |" in (tmp_path / "out" / "table.md").read_text()
    more.write_text(json.dumps({"slow": "lr"}))
    assert compare(finetuning, "-s", "slow", "--more", str(more), "-o", str(tmp_path / "out")) == 2
    assert "slow: expected a list of" in capsys.readouterr().err


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_fits_the_recipe_and_its_globs_the_model(name):
    raw = config_files.read(str(ROOT / "configs" / "vctk" / "vits2_finetune.json"))
    resolved = config.resolve(raw, STRATEGIES[name])
    given = {"n_mels": 80, "n_tokens": 205, "n_speakers": 108, "hop_length": 256}
    with torch.device("meta"):
        generator = config.build("model", resolved.model, registry.MODELS, **given).generator
    section = resolved.optimizers["generator"]
    freezing = plan("generator", generator, section.train, section.freeze, section.thaw, section.lr_factors)
    trained = {key.split(".")[0] for key in freezing.trained}
    everything = {"enc_p", "dec", "enc_q", "flow", "dp", "emb_g"}
    expected = {"table_only": {"emb_g"}, "frozen_text_and_flow": everything - {"enc_p", "flow"}}
    assert trained == expected.get(name, everything)
    assert set(freezing.thawed) == ({2} if name == "table_first" else set())
    assert (resolved.init_from is None) == (resolved.new_speakers is None) == (name == "scratch")


def test_evaluations_between_logged_steps_have_their_epoch(tmp_path):
    rows = [{"split": "val", "step": 0, "mcd": 9.0}, {"split": "train", "step": 300, "epoch": 300 / 61, "mel": 1.0}]
    rows += [{"split": "val", "step": 305, "mcd": 8.0, "note": "x"}, {"split": "val", "step": 610, "mcd": 7.0}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    curves = read_curves(tmp_path / "metrics.jsonl")
    assert list(curves) == ["val/mcd"]
    assert curves["val/mcd"] == [(0.0, 9.0), (pytest.approx(5.0), 8.0), (pytest.approx(10.0), 7.0)]


def test_the_table_leaves_out_what_an_evaluation_could_not_measure():
    curves = {"a": {"val/mcd": [(0.0, 9.0), (1.0, 8.0), (2.0, 7.0)], "val/timbre": [(1.0, 0.4)]}}
    table = compare_finetunings._table(["m0", "m1", "t0", "t1"], curves, ["val/mcd", "val/timbre"], (0, -1))
    assert table.splitlines()[2] == "| a | 9.0000 | 7.0000 |  |  |"
    empty = compare_finetunings._table(["m0"], {"a": {}}, ["val/mcd"], (0,))
    assert empty.splitlines()[2] == "| a |  |"
