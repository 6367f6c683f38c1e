"""Every file under configs/ says how it is run and is built; the tiny ones train and are tested."""

import json
import shlex

import pytest
import torch

import test as test_script
import train as train_script
from hw_base import registry
from hw_base.config import resolve as config
from tests.conftest import ROOT

FILES = sorted(path for pattern in ("*.json", "*.yaml") for path in (ROOT / "configs").rglob(pattern))
FILES = [path for path in FILES if path.parent.name != "grading"]  # of another program, tested beside it
TINY = [path for path in FILES if path.parent.name == "tiny"]


def test_the_folders_are_found():
    assert {path.parent.name for path in FILES} >= {
        "configs",
        "tiny",
        "fsdd",
        "librispeech",
        "ljspeech",
        "vctk",
        "vctk_mini",
    }
    assert TINY


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "configs")))
def test_a_config_builds_its_model_and_says_its_command(path):
    loaded = config.load(path)
    about = loaded.about if isinstance(loaded.about, str) else "\n".join(loaded.about)
    assert f"-c {path.relative_to(ROOT)}" in about
    task = registry.TASKS[loaded.task](loaded)
    with torch.device("meta"):  # the large ones would take seconds and gigabytes
        model = config.build("model", loaded.model, registry.MODELS, **task.model_arguments())
    assert set(model.parameter_groups()) == set(loaded.optimizers)
    for name, section in loaded.losses.items():
        config.build(f"losses.{name}", section, registry.LOSSES)
    task.item_maker(training=True)


def commands():
    for path in FILES:
        about = config.read(path)["about"]
        lines = about.splitlines() if isinstance(about, str) else about
        yield from ((path, line) for line in lines if line.startswith("python train.py -c "))


@pytest.mark.parametrize(("path", "line"), list(commands()), ids=lambda part: str(part).removeprefix(f"{ROOT}/")[:60])
def test_the_command_in_a_config_is_one_that_works(path, line, capsys):
    """With one ``--set`` at most, whose keys exist."""
    arguments = shlex.split(line.split(";")[0])[2:]
    assert arguments.count("--set") <= 1
    assert arguments[:2] == ["-c", str(path.relative_to(ROOT))]
    arguments[1] = str(path)
    assert train_script.main([*arguments, "--print-config"]) == 0, capsys.readouterr().err
    printed = json.loads(capsys.readouterr().out)
    if any("*.args.root" in argument for argument in arguments):
        roots = [dataset["args"]["root"] for split in printed["data"].values() for dataset in split["datasets"]]
        assert set(roots) == {"DIR"}


def test_there_are_recipes_in_yaml():
    assert len([path for path in FILES if path.suffix == ".yaml"]) >= 2


@pytest.mark.parametrize("path", TINY, ids=lambda path: path.stem)
def test_a_tiny_config_trains_and_is_tested(path, tmp_path):
    run = ["--run-dir", str(tmp_path / "run"), "-d", "cpu", "--set", "trainer.max_steps=2"]
    assert train_script.main(["-c", str(path), *run]) == 0
    best = str(tmp_path / "run" / "checkpoint-00000002.pth")
    assert test_script.main(["-r", best, "-d", "cpu", "-o", str(tmp_path / "output.json")]) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["output.json"]["splits"]["test"]


def test_the_librispeech_recipe_runs_as_it_is_on_a_small_tree(real_data, tmp_path):
    """Only the folder, the parts at hand and the length are changed."""
    root = real_data / "LibriSpeech"
    sets = [f"data.{split}.datasets.0.args.root={root}" for split in ("train", "val", "test-clean", "test-other")]
    sets += ["data.test-clean.datasets.0.args.part=test-other", "data.test-clean.limit=2", "data.test-other.limit=2"]
    sets += [
        "data.val.limit=2",
        "data.train.limit=6",
        "data.train.workers=0",
        "trainer.max_steps=2",
        "trainer.epochs=null",
    ]
    sets += [
        "data.train.batch_size=2",
        "data.train.max_seconds=12.0",
        "model.args.n_hidden=32",
        "model.args.n_layers=1",
    ]
    sets += [f"data.{split}.workers=0" for split in ("val", "test-clean", "test-other")]
    flags = [part for item in sets for part in ("--set", item)]
    path = str(ROOT / "configs" / "librispeech" / "ds2.json")
    assert train_script.main(["-c", path, "--run-dir", str(tmp_path / "run"), "-d", "cpu", *flags]) == 0
    best = str(tmp_path / "run" / "model_best.pth")
    assert test_script.main(["-r", best, "-d", "cpu", "-o", str(tmp_path / "output.json")]) == 0
    assert set(json.loads((tmp_path / "metrics.json").read_text())["output.json"]["splits"]) == {
        "test-clean",
        "test-other",
    }
