"""Losses of generators and discriminators against the original's numbers and against their formulas."""

import math

import pytest
import torch
from torch.nn import functional as F

from hw_base import checkpoint
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.registry import LOSSES
from hw_tts.losses.adversarial import (
    AdversarialLoss,
    FeatureMatchingLoss,
    WaveformMelLoss,
    discriminator_loss,
    feature_matching_loss,
    generator_loss,
    mel_loss,
)
from tests.conftest import SHARED

REFERENCE = SHARED / "reference" / "mb_istft_vits2_small.pt"


@pytest.fixture
def reference():
    if not REFERENCE.is_file():
        pytest.skip("no reference numbers")
    return checkpoint.load_untrusted(REFERENCE)["outputs"]["losses"]


def test_the_original_numbers(reference):
    real, fake = reference["real"], reference["fake"]
    torch.testing.assert_close(discriminator_loss(real, fake), reference["discriminator_loss"])
    torch.testing.assert_close(generator_loss(fake), reference["generator_loss"])
    maps = reference["fmap_real"], reference["fmap_fake"]
    torch.testing.assert_close(feature_matching_loss(*maps), reference["feature_loss"])
    adversarial = AdversarialLoss()
    assert torch.equal(adversarial.discriminator(real, fake), discriminator_loss(real, fake))
    assert torch.equal(adversarial(fake), generator_loss(fake))
    assert torch.equal(FeatureMatchingLoss()(*maps), feature_matching_loss(*maps))


def test_perfect_scores_and_equal_maps_cost_nothing():
    ones, zeros = [torch.ones(2, 3)] * 2, [torch.zeros(2, 3)] * 2
    assert discriminator_loss(ones, zeros) == 0
    assert discriminator_loss(zeros, ones) == 4
    assert generator_loss(ones) == 0
    assert generator_loss(zeros) == 2
    maps = [[torch.randn(2, 3, 4)] * 2]
    assert feature_matching_loss(maps, maps) == 0


def test_feature_matching_gives_no_gradient_to_the_side_of_the_recording():
    real, fake = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    feature_matching_loss([[real]], [[fake]]).backward()
    assert real.grad is None
    torch.testing.assert_close(fake.grad, 2 * torch.sign(fake - real).detach() / 6)


def test_half_precision_scores_are_summed_in_full():
    scores = [torch.full((1, 1000), 300.0, dtype=torch.float16)]
    assert discriminator_loss([torch.ones_like(scores[0])], scores) == 90000.0


def test_lists_of_different_lengths_are_a_mistake():
    with pytest.raises(ValueError, match="zip"):
        discriminator_loss([torch.ones(1)], [])


def test_the_mel_loss_counts_frames_and_no_padding():
    real, fake = torch.randn(2, 4, 6), torch.randn(2, 4, 6)
    everything = mel_loss(real, fake)
    torch.testing.assert_close(everything.total / everything.count, F.l1_loss(fake, real))
    counted = mel_loss(real, fake, torch.tensor([6, 2]))
    parts = torch.cat([(real[0] - fake[0]).abs().flatten(), (real[1, :, :2] - fake[1, :, :2]).abs().flatten()])
    torch.testing.assert_close(counted.total / counted.count, parts.mean())


def test_waveforms_are_compared_over_the_whole_band():
    features = LogMelSpectrogram(
        sample_rate=16000, n_fft=256, win_length=256, hop_length=64, n_mels=20, f_max=4000.0, normalize="none", eps=1e-5
    )
    high = torch.sin(2 * math.pi * 7000 * torch.arange(4000) / 16000).expand(2, -1)
    silence = torch.zeros_like(high)
    heard = {}
    for f_max in (4000.0, None):
        loss = WaveformMelLoss(f_max)
        loss.prepare(features)
        value = loss(high, silence)
        heard[f_max] = (value.total / value.count).item()
        assert loss(high, high).total == 0
    assert heard[None] > 2 * heard[4000.0]


def test_an_utterance_costs_the_same_alone_and_padded():
    features = LogMelSpectrogram(n_mels=20, normalize="none", eps=1e-5)
    loss = WaveformMelLoss()
    loss.prepare(features)
    real, fake = 0.1 * torch.randn(2, 3000), 0.1 * torch.randn(2, 3000)
    length = torch.tensor([3000, 1700])
    together = loss(real, fake, length)
    alone = [loss(real[i : i + 1, :n], fake[i : i + 1, :n]) for i, n in enumerate(length.tolist())]
    torch.testing.assert_close(together.total, sum(a.total for a in alone))
    assert together.count == sum(a.count for a in alone)


def test_they_are_registered():
    assert {"AdversarialLoss", "FeatureMatchingLoss", "WaveformMelLoss"} <= set(LOSSES)
