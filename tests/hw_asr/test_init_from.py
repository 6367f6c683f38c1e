"""What a recognizer may start from: the encoder of a transducer, a model that its own is derived from."""

import pytest
import torch
from torch import nn

import train as train_script
from hw_asr.models.deepspeech2 import DeepSpeech2
from hw_base import checkpoint
from hw_base.config.resolve import load
from hw_base.registry import MODELS
from hw_base.runs.experiment import Experiment
from tests.conftest import ROOT, same
from tests.recognizers import save_random

DS2, TRANSDUCER = (str(ROOT / "configs" / "tiny" / f"{name}.json") for name in ("ds2", "transducer"))
SHORT = ["metrics={}", "trainer.monitor=null", "trainer.max_steps=1", "trainer.preflight=false"]


def train(config, folder, *sets):
    return train_script.main(["-c", config, "-d", "cpu", "--run-dir", str(folder), "--set", *SHORT, *sets])


def test_an_encoder_starts_from_a_recognizer_of_its_kind(tmp_path, caplog):
    source = save_random(tmp_path / "ds2.pth")
    given = checkpoint.load(source)["model"]
    sets = [f"init_from={source}", "optimizers.model.freeze=[encoder.*]"]
    with caplog.at_level("INFO"):
        model = Experiment(load(TRANSDUCER, [*SHORT, *sets]), torch.device("cpu")).trainer(None).model
    assert given.keys() == model.encoder.state_dict().keys()
    assert all(torch.equal(weight, given[name]) for name, weight in model.encoder.state_dict().items())
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("init_from: ")]
    assert line.startswith("init_from: of Transducer, predictor.")
    assert line.endswith("joiner.bias start anew")
    assert "encoder.head" not in line
    assert train(TRANSDUCER, tmp_path / "run", *sets) == 0
    trained = checkpoint.load(tmp_path / "run" / "checkpoint-00000001.pth")["model"]
    assert torch.equal(trained["encoder.head.weight"], given["head.weight"])


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (["model.args.encoder=DeepSpeech"], "holds a DeepSpeech2, the config's model is a Transducer, its encoder a"),
        (["model.args.encoder.args.n_layers=2"], "missing encoder.rnns.1.backward_rnn.bias_ih_l0"),
        (["model.args.encoder.args.n_hidden=16"], "made for another model: encoder.head.weight"),
        (["init_optimizers=true"], "ds2.pth holds a part of the model; its moments do not fit"),
    ],
)
def test_an_encoder_of_another_kind_or_size_is_refused_in_one_line(sets, line, tmp_path, capsys):
    source = save_random(tmp_path / "ds2.pth")
    assert train(TRANSDUCER, tmp_path / "run", f"init_from={source}", *sets) == 2
    (error,) = [said for said in capsys.readouterr().err.splitlines() if said.startswith("error: ")]
    assert line in error


def test_a_recognizer_does_not_start_from_a_transducer(tmp_path, capsys):
    source = save_random(tmp_path / "transducer.pth", name="transducer")
    assert train(DS2, tmp_path / "run", f"init_from={source}") == 2
    assert "holds a Transducer, the config's model is a DeepSpeech2\n" in capsys.readouterr().err


class WithMore(DeepSpeech2):
    """A module more, before the last one."""

    def __init__(self, n_mels: int, n_tokens: int) -> None:
        super().__init__(n_mels, n_tokens, [4, 4], n_layers=1, n_hidden=24)
        head = self.head
        del self.head
        self.more, self.head = nn.Linear(2, 3), head


def test_moments_of_a_derived_model_belong_to_the_parameters_that_had_them(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS._entries, "WithMore", WithMore)
    assert train(DS2, tmp_path / "run") == 0
    source = tmp_path / "run" / "checkpoint-00000001.pth"
    there = checkpoint.load(source)["optimizations"]["model"]["optimizer"]["state"]
    sets = [*SHORT, f"init_from={source}", "init_optimizers=true", "model=WithMore"]
    trainer = Experiment(load(DS2, sets), torch.device("cpu")).trainer(None)
    named = dict(trainer.model.named_parameters())
    names = [name for name in named if not name.startswith("more.")]
    assert len(there) == len(names) == len(named) - 2
    here = trainer.optimizations["model"].optimizer.state
    for place, name in enumerate(names):
        assert torch.equal(here[named[name]]["exp_avg"], there[place]["exp_avg"]), name
    assert not here.get(named["more.weight"])


def test_what_is_to_start_anew_is_not_taken(tmp_path):
    """A head for pieces after one for letters, as it is without a checkpoint."""
    source = save_random(tmp_path / "ds2.pth")
    given = checkpoint.load(source)["model"]
    pieces = 'text_encoder={"type": "SentencePieceTextEncoder", "args": {"vocab_size": 30}}'

    def weights(*sets):
        model = Experiment(load(DS2, [*SHORT, pieces, *sets]), torch.device("cpu")).trainer(None).model
        return model.state_dict()

    found, made = weights(f"init_from={source}", 'init_anew=["head.*"]'), weights()
    assert found["head.weight"].shape != given["head.weight"].shape
    for name, value in found.items():
        assert torch.equal(value, (made if name.startswith("head.") else given)[name]), name
    assert not torch.equal(made["convs.0.conv.weight"], given["convs.0.conv.weight"])


@pytest.mark.parametrize("taken", [True, False])
def test_pieces_of_the_checkpoint_are_taken_or_learned_anew(tmp_path, taken):
    pieces = 'text_encoder={"type": "SentencePieceTextEncoder", "args": {"vocab_size": 30}}'
    texts = ["quick brown foxes jump over lazy dogs", "pack my box with five dozen liquor jugs"]
    source = save_random(tmp_path / "ds2.pth", [pieces], texts)
    sets = [*SHORT, pieces, f"init_from={source}", 'init_anew=["head.*"]', f"init_text_encoder={str(taken).lower()}"]
    experiment = Experiment(load(DS2, sets), torch.device("cpu"))
    experiment.trainer(None)
    theirs = checkpoint.load(source)["text_encoder"]
    assert same(experiment.task.text_encoder.state_dict(), theirs) == taken


@pytest.mark.parametrize(
    ("sets", "line"),
    [
        (["init_anew=[heads.*]"], "init_anew: 'heads.*' matches no parameter. Did you mean 'head.*'?"),
        (["init_anew=[head.*]", "init_optimizers=true"], "init_optimizers: what init_anew makes anew has no moments"),
        (["init_anew=[head.*]", "init_from=null"], "init_anew: says what is not taken from init_from, and there is"),
        (
            ["init_text_encoder=false", "init_from=null"],
            "init_text_encoder: says what is not taken from init_from, and",
        ),
    ],
)
def test_what_cannot_start_anew_is_one_line(sets, line, tmp_path, capsys):
    source = save_random(tmp_path / "ds2.pth")
    assert train(DS2, tmp_path / "run", f"init_from={source}", *sets) == 2
    (error,) = [said for said in capsys.readouterr().err.splitlines() if said.startswith("error: ")]
    assert line in error
