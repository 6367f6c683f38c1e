"""Files of the public program that are not what they should be: one line each, and nothing is taken over."""

import copy

import pytest
import torch
from torch import nn

from hw_base.errors import CheckpointError, ConfigError
from hw_tts.public import vits2_config as public_config
from hw_tts.public import vits2_weights as public_checkpoint


def content():
    """What a file of the program holds, of a generator with two tensors."""
    weights = {"enc_p.emb.weight": torch.ones(3, 2), "other": torch.ones(4)}
    optimizer = torch.optim.AdamW([nn.Parameter(value) for value in weights.values()], lr=1e-4)
    for parameter in optimizer.param_groups[0]["params"]:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {"model": weights, "iteration": 7, "optimizer": optimizer.state_dict(), "learning_rate": 2e-4}


def read(folder, made):
    torch.save(made, folder / "G_12.pth")
    return public_checkpoint.read([folder / "G_12.pth"])["generator"]


def test_what_a_file_tells(tmp_path):
    found = read(tmp_path, content())
    assert (found.epoch, found.learning_rate, found.settings["lr"]) == (7, 2e-4, 1e-4)
    assert list(found.weights) == ["enc_p.emb.weight", "other"]
    assert sorted(found.state) == [0, 1]
    assert public_checkpoint.step_of([tmp_path / "G_12.pth", tmp_path / "x.pth"]) == 12
    assert public_checkpoint.step_of([tmp_path / "x.pth"]) == 0


def test_a_file_of_a_parallel_run_without_an_optimizer(tmp_path):
    given = content()
    found = read(tmp_path, {"model": {f"module.{key}": value for key, value in given["model"].items()}})
    assert list(found.weights) == ["enc_p.emb.weight", "other"]
    assert (found.epoch, found.learning_rate, found.state) == (0, None, None)


def moments(**changed):
    optimizer = copy.deepcopy(content()["optimizer"])
    return {"optimizer": {**optimizer, "state": {**optimizer["state"], **changed}}}


def settings(**changed):
    optimizer = copy.deepcopy(content()["optimizer"])
    return {"optimizer": {**optimizer, "param_groups": [{**optimizer["param_groups"][0], **changed}]}}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": {5: torch.ones(1)}}, "no table of tensors named 'model'"),
        ({"model": {"enc_p.emb.weight": torch.ones(())}}, r"enc_p.emb.weight is \(\), expected 2 axes"),
        ({"iteration": "x"}, "iteration: expected the number of its epoch, found 'x'"),
        ({"iteration": -1}, "iteration: expected the number of its epoch, found -1"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a positive number, found nan"),
        ({"optimizer": "x"}, "optimizer: expected a state and one group"),
        ({"optimizer": {"state": {}, "param_groups": []}}, "optimizer: expected a state and one group"),
        (settings(lr="x"), "optimizer: expected a rate and the 2 parameters"),
        (settings(params=[0]), "optimizer: expected a rate and the 2 parameters"),
        (moments(**{"9": {}}), "optimizer: the moments numbered '9' fit no tensor"),
        (
            {"optimizer": {**content()["optimizer"], "state": {2: {}}}},
            "optimizer: the moments numbered 2 fit no tensor",
        ),
        (
            {"optimizer": {**content()["optimizer"], "state": {1: content()["optimizer"]["state"][0]}}},
            "optimizer: the moments numbered 1 fit no tensor",
        ),
    ],
)
def test_damaged_files_are_named_with_what_is_wrong(tmp_path, changed, message):
    with pytest.raises(CheckpointError, match=rf"G_12.pth: .*{message}") as caught:
        read(tmp_path, {**content(), **changed})
    assert "\n" not in str(caught.value)


def test_every_difference_is_told_and_nothing_is_taken_over(tmp_path):
    network = nn.ParameterDict({"other": nn.Parameter(torch.zeros(4)), "missing": nn.Parameter(torch.zeros(1))})
    made = content()
    made["model"]["other"][2] = torch.nan
    found = {"generator": read(tmp_path, made)}
    with pytest.raises(CheckpointError) as caught:
        public_checkpoint.load({"generator": network}, found)
    lines = [line.rpartition("G_12.pth: ")[2] for line in str(caught.value).splitlines()]
    assert lines == ["missing is missing", "enc_p.emb.weight is not part of the model", "other is not finite"]
    assert not network["other"].any()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": "abc"}, "train: expected a mapping of keys, found 'abc'"),
        ({"train": {"segment_size": "x"}}, "train.segment_size: expected a whole number from 1 on, found 'x'"),
        ({"train": {"segment_size": 8, "learning_rate": None}}, "train.learning_rate: expected a number from 0 on"),
        ({"data": {"hop_length": 0}}, "data.hop_length: expected a whole number from 1 on, found 0"),
        ({"data": {"n_speakers": 1.5}}, "data.n_speakers: expected a whole number from 0 on, found 1.5"),
        ({"data": {"mel_fmax": "high"}}, "data.mel_fmax: expected a number from 0 on, found 'high'"),
    ],
)
def test_configs_with_no_numbers_are_named(changed, message):
    with pytest.raises(ConfigError, match=message):
        public_config.convert({"train": {"segment_size": 8}, "data": {}, "model": {}, **changed}, "x", 205, None)
