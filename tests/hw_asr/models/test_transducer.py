import json

import pytest
import torch

import hw_tts  # noqa: F401 - for a model that is no recognizer
from hw_asr.checks.transducer import model_of
from hw_asr.models import DeepSpeech2, Transducer
from hw_base.config import read as config_files
from hw_base.config.resolve import build, resolve
from hw_base.config.schema import Component
from hw_base.errors import ConfigError
from hw_base.registry import MODELS
from tests.conftest import ROOT

ENCODERS = {
    "DeepSpeech2": {"conv_channels": [2], "n_layers": 1, "n_hidden": 8},
    "DeepSpeech": {"n_hidden": 8},
    "Conformer": {
        "n_layers": 2,
        "width": 8,
        "n_heads": 2,
        "ff_width": 16,
        "kernel_size": 3,
        "intermediate_layers": [1],
    },
}


def made(encoder="DeepSpeech2", predictor="StatelessPredictor", **args):
    sections = {
        "encoder": {"type": encoder, "args": ENCODERS[encoder]},
        "predictor": {"type": predictor, "args": {"width": 6, **args}},
    }
    section = Component(type="Transducer", args={**sections, "joiner_size": 10})
    return build("model", section, MODELS, n_mels=16, n_tokens=5)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_any_model_of_this_project_is_an_encoder_and_keeps_its_outputs(encoder):
    model = made(encoder).eval()
    batch = {"spectrogram": torch.randn(2, 16, 40), "spectrogram_length": torch.tensor([40, 25])}
    outputs = model(**batch)
    own = model.encoder(**batch)
    assert torch.equal(outputs["log_probs"], own["log_probs"])
    assert outputs.keys() - {"encoder_states"} == own.keys() - {"encoded"}
    assert outputs["encoder_states"].shape == (*own["log_probs"].shape[:2], 10)
    torch.testing.assert_close(outputs["encoder_states"], model.encoder_projection(own["encoded"]))
    assert own["encoded"].shape[-1] == model.encoder.n_encoded
    tokens = torch.tensor([[1, 2, 3], [4, 0, 0]])
    assert model(**batch, tokens=tokens)["predictor_states"].shape == (2, 4, 10)


@pytest.mark.parametrize(
    ("predictor", "args"),
    [
        ("StatelessPredictor", {"context": 1}),
        ("StatelessPredictor", {"context": 3}),
        ("LSTMPredictor", {}),
        ("LSTMPredictor", {"n_layers": 2, "dropout": 0.5}),
    ],
)
def test_a_predictor_gives_token_by_token_what_it_gives_of_the_whole_text(predictor, args):
    model = made(predictor=predictor, **args).eval().predictor
    tokens = torch.tensor([[1, 2, 3, 3, 1], [4, 4, 1, 2, 4]])
    whole = model(tokens)
    state = model.start(2, torch.device("cpu"))
    for place in range(tokens.shape[1] + 1):
        torch.testing.assert_close(model.output(state), whole[:, place])
        if place < tokens.shape[1]:
            state = model.advance(state, tokens[:, place])
    # A search picks rows: here the second text goes on from the state of the first.
    mixed = tuple(part[[1, 0, 1]] for part in state)
    torch.testing.assert_close(model.output(mixed), whole[[1, 0, 1], -1])


@pytest.mark.parametrize("predictor", ["StatelessPredictor", "LSTMPredictor"])
def test_a_predictor_never_sees_what_is_still_to_be_said(predictor):
    model = made(predictor=predictor).eval().predictor
    tokens = torch.tensor([[1, 2, 3, 4]])
    changed = tokens.clone()
    changed[0, 2:] = 1
    assert torch.equal(model(tokens)[:, :3], model(changed)[:, :3])
    assert not torch.equal(model(tokens)[:, 3:], model(changed)[:, 3:])


def test_a_stateless_predictor_remembers_its_context_alone():
    model = made(context=2).eval().predictor
    long, short = model(torch.tensor([[4, 4, 1, 2]])), model(torch.tensor([[1, 2]]))
    torch.testing.assert_close(long[:, -1], short[:, -1])
    assert not torch.equal(model(torch.tensor([[3, 2]]))[:, -1], short[:, -1])


def test_the_joiner_gives_probabilities_of_tokens_and_blank():
    model = model_of(0)
    log_probs = model.join(torch.randn(4, 1, 6), torch.randn(1, 3, 6))
    assert log_probs.shape == (4, 3, 3)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(4, 3))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.args.encoder.type", "DeepSpeach2", "no model is named 'DeepSpeach2'. Did you mean 'DeepSpeech2'?"),
        ("model.args.encoder.type", "Transducer", "a Transducer cannot be the encoder of another"),
        ("model.args.encoder.type", "HiFiGAN", "HiFiGAN is no CTCModel"),
        ("model.args.encoder.args.n_hiden", 3, "args.n_hiden: unknown key"),
        ("model.args.encoder.args.n_mels", 3, "args.n_mels: set by the program"),
        ("model.args.predictor.type", "GRUPredictor", "no predictor of transducers is named 'GRUPredictor'"),
        ("model.args.predictor.args.width", 0, "args.width: expected greater than 0"),
        ("losses", {"transducer": 1.0}, "a Transducer is trained with both its losses"),
        ("losses", {"ctc": 1.0}, "a Transducer is trained with both its losses"),
    ],
)
def test_a_wrong_config_is_one_line(key, value, message):
    tree = config_files.read(ROOT / "configs" / "tiny" / "transducer.json")
    with pytest.raises(ConfigError) as error:
        resolve(tree, [f"{key}={json.dumps(value)}"])
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('decoders.beam="TransducerBeamSearchDecoder"', "decodes a Transducer, the model is a DeepSpeech2"),
        ("losses.transducer=1.0", "losses.transducer: TransducerLoss needs model.type Transducer, found DeepSpeech2"),
    ],
)
def test_parts_of_transducers_beside_another_model_are_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        resolve(config_files.read(ROOT / "configs" / "tiny" / "ds2.json"), [override])


def test_an_encoder_that_does_not_give_its_states_is_refused(monkeypatch):
    monkeypatch.delattr(DeepSpeech2, "n_encoded")
    with pytest.raises(ConfigError, match="encoder: DeepSpeech2 does not give its states"):
        made()


def test_ids_of_another_vocabulary_reach_the_loss_that_names_them():
    model = made()
    tokens = torch.tensor([[1, 99]])
    batch = {"spectrogram": torch.randn(1, 16, 40), "spectrogram_length": torch.tensor([40]), "tokens": tokens}
    assert isinstance(model, Transducer)
    assert torch.isfinite(model(**batch)["predictor_states"]).all()
