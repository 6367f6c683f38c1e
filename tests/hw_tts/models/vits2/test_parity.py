"""The numbers of the public implementation, module by module."""

import pytest
import torch

from hw_tts.alignment.search import search_path
from hw_tts.models.vits2.layers import length_mask
from tests.hw_tts.models.vits2.small import reference, small_model


@pytest.fixture(scope="module")
def numbers():
    return reference()


@pytest.fixture(scope="module")
def model(numbers):
    model = small_model().eval()
    model.generator.load_state_dict(numbers["model"])  # weight_g and weight_v, as in the public files
    model.duration_discriminator.load_state_dict(numbers["dur_disc"])
    return model


@pytest.fixture(scope="module")
def given(numbers, model):
    inputs = numbers["inputs"]
    return {
        "speaker": model.generator.speaker(inputs["sid"]),
        "tokens_mask": length_mask(inputs["x_lengths"], inputs["x"].shape[1]),
        "frames_mask": length_mask(inputs["y_lengths"], inputs["y"].shape[2]),
        **inputs,
    }


def close(ours, theirs):
    assert ours.shape == theirs.shape
    assert float((ours - theirs).norm()) <= 1e-4 * float(theirs.norm())


@torch.no_grad()
def test_the_text_encoder(model, numbers, given):
    expected = numbers["outputs"]["enc_p"]
    hidden, mean, log_scale = model.generator.enc_p(given["x"], given["tokens_mask"], given["speaker"])
    close(hidden, expected["hidden"])
    close(mean, expected["m_p"])
    close(log_scale, expected["logs_p"])
    assert torch.equal(given["tokens_mask"].float(), expected["x_mask"])


@torch.no_grad()
def test_the_posterior_encoder(model, numbers, given):
    expected = numbers["outputs"]["enc_q"]
    mean, log_scale = model.generator.enc_q(given["y"], given["frames_mask"], given["speaker"])
    close(mean, expected["m_q"])
    close(log_scale, expected["logs_q"])


@torch.no_grad()
def test_the_flow_both_ways(model, numbers, given):
    expected = numbers["outputs"]["flow"]
    arguments = (given["frames_mask"], given["speaker"])
    close(model.generator.flow(expected["z_in"], *arguments), expected["z_p"])
    close(model.generator.flow(expected["z_p"], *arguments, inverse=True), expected["z_back"])
    assert float((expected["z_p"] - expected["z_in"].flip(1)).norm()) > 0  # the reference's flow is not idle


@torch.no_grad()
def test_the_duration_predictor(model, numbers, given):
    hidden = numbers["outputs"]["enc_p"]["hidden"]
    log_durations = model.generator.dp(hidden, given["tokens_mask"], given["speaker"])
    close(log_durations, numbers["outputs"]["dp"]["logw"].squeeze(1))


@torch.no_grad()
def test_the_decoder(model, numbers, given):
    expected = numbers["outputs"]["dec"]
    waveform, subbands = model.generator.dec(expected["z"], given["speaker"])
    close(waveform, expected["wav"].squeeze(1))
    close(subbands, expected["subbands"])


@torch.no_grad()
def test_the_filter_bank(model, numbers):
    expected = numbers["outputs"]["pqmf"]
    bank = model.generator.dec.filter_bank
    close(bank.analysis(expected["wav"].squeeze(1)), expected["analysis"])
    close(bank.synthesis(expected["analysis"]), expected["synthesis"].squeeze(1))


def test_the_alignment_search(numbers):
    expected = numbers["outputs"]["mas"]
    tokens = expected["mask"].amax(dim=1).sum(dim=1).long()
    frames = expected["mask"].amax(dim=2).sum(dim=1).long()
    assert torch.equal(search_path(expected["neg_cent"], frames, tokens), expected["path"])


@torch.no_grad()
def test_the_duration_discriminator(model, numbers, given):
    expected = numbers["outputs"]["dur_disc"]
    hidden = numbers["outputs"]["enc_p"]["hidden"]
    durations = (expected["dur_r"].squeeze(1), expected["dur_hat"].squeeze(1))
    real, predicted = model.duration_discriminator(hidden, given["tokens_mask"], *durations)
    close(real, expected["prob_r"][0].squeeze(-1))
    close(predicted, expected["prob_hat"][0].squeeze(-1))


@pytest.mark.parametrize(("name", "speed"), [("infer", 1.0), ("infer_length_scale_1.7", 1 / 1.7)])
def test_speech_without_noise(model, numbers, given, name, speed):
    expected = numbers["outputs"][name]["wav"].squeeze(1)
    made = model.synthesize(given["x"], given["x_lengths"], given["sid"], speed=speed, noise=0.0)
    assert made["waveform"].shape == expected.shape
    for row, length in enumerate(made["waveform_length"]):
        close(made["waveform"][row, :length], expected[row, :length])
        assert not made["waveform"][row, length:].any()  # where the reference continues with what zeros decode to


def test_the_durations_of_speech(model, numbers, given):
    made = model.synthesize(given["x"], given["x_lengths"], given["sid"], noise=0.0)
    assert torch.equal(made["durations"].float(), numbers["outputs"]["infer"]["attn"].sum(dim=(1, 2)))
