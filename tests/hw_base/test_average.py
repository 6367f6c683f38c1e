"""Averaged checkpoints: the arithmetic, the choice of the best, and what training keeps for it."""

import copy
import json
import math

import pytest
import torch

from hw_base import average, checkpoint
from hw_base.config import resolve as config
from hw_base.errors import CheckpointError, ConfigError
from hw_base.training.monitor import Monitor
from hw_base.writers import JsonlWriter, MultiWriter
from tests.conftest import ROOT
from tests.hw_base.toys import Regressor, RegressorTrainer, batches, make

CONFIG = {"task": "asr", "model": {"type": "X"}, "features": {}, "trainer": {"monitor": "min val/wer"}}


def state(step, **changed):
    generator = torch.Generator().manual_seed(step)
    weights = {
        "w": torch.randn(3, 4, generator=generator),
        "half": torch.randn(5, generator=generator).bfloat16(),
        "n": torch.tensor(step),
    }
    made = {"config": CONFIG, "text_encoder": {"model": torch.arange(3)}, "step": step, "model": weights}
    return made | {"optimizations": {}} | changed


def write(folder, *steps):
    for step in steps:
        checkpoint.save(checkpoint.path_of(folder, step), state(step))
    return [checkpoint.path_of(folder, step) for step in steps]


def test_the_mean(tmp_path):
    paths = write(tmp_path, 30, 50, 10)
    made = average.average(paths)
    for name in ("w", "half"):
        expected = torch.stack([state(step)["model"][name].double() for step in (10, 30, 50)]).mean(0)
        assert made["model"][name].dtype == state(1)["model"][name].dtype
        torch.testing.assert_close(
            made["model"][name].double(), expected, rtol=1e-2 if name == "half" else 1e-6, atol=1e-6
        )
    assert made["model"]["n"] == 50
    assert (made["step"], made["averaged"]) == (50, [10, 30, 50])
    one = average.average(paths[:1])
    assert all(torch.equal(one["model"][name], state(30)["model"][name]) for name in one["model"])


def test_what_cannot_be_averaged(tmp_path):
    first = write(tmp_path, 1)[0]
    other = tmp_path / "other.pth"
    weights = state(2)["model"]
    for changed, message in [
        ({"config": {**CONFIG, "model": {"type": "Y"}}}, "its config has another model"),
        ({"config": {**CONFIG, "features": {"x": 1}}}, "its config has another features"),
        ({"text_encoder": {"model": torch.arange(4)}}, "another vocabulary"),
        ({"model": {**weights, "more": torch.zeros(1)}}, "made for another model"),
        ({"model": {**weights, "w": torch.zeros(4, 3)}}, "made for another model"),
        ({"model": {**weights, "w": torch.full((3, 4), math.nan)}}, "w is not finite"),
    ]:
        checkpoint.save(other, state(2, **changed))
        with pytest.raises(CheckpointError, match=message):
            average.average([first, other])
    checkpoint.save(other, {key: value for key, value in state(2).items() if key != "step"})
    with pytest.raises(CheckpointError, match=r"other\.pth: no step in it"):
        average.average([first, other])
    with pytest.raises(CheckpointError, match="no checkpoints to average"):
        average.average([])


@pytest.fixture
def run_dir(tmp_path):
    write(tmp_path, 10, 20, 30, 40, 50)
    checkpoint.save(tmp_path / checkpoint.BEST, state(5))
    rows = {5: 0.1, 10: 0.5, 20: 0.2, 30: "NaN", 40: 0.4, 60: 0.0}
    lines = [{"step": step, "split": "val", "wer": value, "cer": step} for step, value in rows.items()]
    lines.append({"step": 50, "split": "train", "wer": 0.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_the_best_are_chosen_by_the_record(run_dir, caplog):
    def steps(*arguments):
        return [checkpoint.load(path)["step"] for path in average.best_of(run_dir, *arguments)]

    assert steps(2) == [5, 20]
    assert steps(3, "min val/wer") == [5, 20, 40]
    assert steps(2, "max val/wer") == [10, 40]
    assert steps(2, "max val/cer") == [40, 30]
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert steps(9) == [5, 20, 40, 10]
    assert "only 4 of 9 checkpoints are there" in caplog.text
    with pytest.raises(CheckpointError, match="no checkpoint has a value of 'val/mel'"):
        average.best_of(run_dir, 2, "min val/mel")
    for rule in ("val/wer", "least val/wer", "min wer"):
        with pytest.raises(ConfigError, match="expected"):
            average.best_of(run_dir, 2, rule)


def test_the_command(run_dir, tmp_path, capsys):
    output = tmp_path / "new" / "averaged.pth"
    assert average.main([str(run_dir), "--best", "2", "-o", str(output)]) == 0
    assert "the mean of 2 checkpoints, steps 5, 20" in capsys.readouterr().out
    made = checkpoint.load(output)
    torch.testing.assert_close(made["model"]["w"], (state(5)["model"]["w"] + state(20)["model"]["w"]) / 2)
    assert made["step"] == 20
    some = [str(checkpoint.path_of(run_dir, step)) for step in (10, 40)]
    assert average.main([*some, "-o", str(output)]) == 0
    assert checkpoint.load(output)["averaged"] == [10, 40]
    assert average.main([str(run_dir), "-o", str(output)]) == 0
    assert checkpoint.load(output)["averaged"] == [10, 20, 30, 40, 50]
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, message in [
        ([*some, "--best", "2"], "--best: goes with one run folder"),
        ([str(run_dir), "--by", "min val/wer"], "--by: goes with --best N"),
        ([str(empty)], "no checkpoints to average"),
        ([str(empty), "--best", "1"], "holds no checkpoints"),
        ([str(tmp_path / "none.pth")], "no such file"),
    ]:
        assert average.main([*arguments, "-o", str(output)]) == 2
        assert message in capsys.readouterr().err
    assert average.main([*some, "-o", some[0]]) == 2
    assert "is one of the checkpoints to average" in capsys.readouterr().err


def test_the_monitor_remembers_the_best():
    monitor = Monitor("max val/x", keep=3)
    for step, value in enumerate([1.0, 5.0, math.nan, 3.0, math.inf, 4.0, 0.0], start=1):
        monitor.update(value, step)
    assert monitor.best_steps == {2, 4, 6}
    other = Monitor("max val/x", keep=2)
    other.load_state_dict(copy.deepcopy(monitor.state_dict()))
    other.update(-1.0, 8)
    assert other.best_steps == {2, 6}
    assert Monitor("min val/x").update(1.0, 1)
    assert Monitor("min val/x").best_steps == set()


@pytest.mark.parametrize("keep_best", [0, 3])
def test_training_keeps_the_best(tmp_path, keep_best):
    """Values come from a table, so that the best ones are in the middle; and a resumed run remembers them."""
    values = dict(zip(range(2, 22, 2), [0.9, 0.5, 0.8, 0.3, 0.1, 0.4, 0.2, 0.6, 0.7, 0.65], strict=True))

    def trainer(max_steps):
        torch.manual_seed(0)
        writers = MultiWriter([JsonlWriter(tmp_path / "metrics.jsonl")])
        made = make(
            RegressorTrainer, Regressor(), batches(5), {"type": "AdamW", "args": {"lr": 0.01}}, {"mse": 1.0},
            run_dir=tmp_path, writers=writers, max_steps=max_steps, eval_every=2, save_every=5, monitor="min val/mse",
            keep_best=keep_best,
        )  # fmt: skip
        made.compute_metrics = lambda split: {"mse": values[made.step]}
        return made

    trainer(12).train()
    second = trainer(20)
    newest = checkpoint.newest_good(tmp_path)
    second.load_state_dict(checkpoint.load(newest), newest)
    second.train()
    kept = sorted(checkpoint.step_of(path) for path in checkpoint.numbered(tmp_path))
    assert kept == ([15, 20] if keep_best == 0 else [8, 10, 14, 15, 20])
    assert checkpoint.load(tmp_path / checkpoint.BEST)["step"] == 10
    if keep_best:
        chosen = average.best_of(tmp_path, 3, "min val/mse")
        assert [checkpoint.step_of(path) for path in chosen] == [10, 14, 8]


def test_keeping_the_best_needs_a_measure():
    with pytest.raises(ConfigError, match=r"trainer\.keep_best: needs trainer\.monitor"):
        config.load(ROOT / "configs" / "tiny" / "ds2.json", ["trainer.monitor=null", "trainer.keep_best=2"])


def test_decoders_that_were_tuned_later_go_into_the_checkpoint(tmp_path):
    run = ROOT / "tests" / "data" / "first_edition" / "ds2" / "checkpoint-00000008.pth"
    fragment, output = tmp_path / "decoders.json", tmp_path / "made.pth"
    fragment.write_text('{"decoders": {"beam": {"type": "BeamSearch", "args": {"beam_size": 7}}}}')
    assert average.main([str(run), "-c", str(fragment), "-o", str(output)]) == 0
    made = checkpoint.load(output)
    assert list(made["config"]["decoders"]) == ["beam"]
    assert made["config"]["decoders"]["beam"]["args"]["beam_size"] == 7
    assert all(torch.equal(value, made["model"][name]) for name, value in checkpoint.load(run)["model"].items())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model": {"type": "DeepSpeech"}}', "model says what the weights mean"),
        ('{"decoders": {"beam": "BeamSerch"}}', "Did you mean 'BeamSearch'"),
    ],
)
def test_what_weights_mean_cannot_be_laid_over(tmp_path, capsys, text, message):
    run = ROOT / "tests" / "data" / "first_edition" / "ds2" / "checkpoint-00000008.pth"
    (tmp_path / "x.json").write_text(text)
    assert average.main([str(run), "-c", str(tmp_path / "x.json"), "-o", str(tmp_path / "made.pth")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "made.pth").exists()
