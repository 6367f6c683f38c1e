"""Losses of VITS2: the original's numbers, formulas, and padding that does not count."""

import math

import pytest
import torch

from hw_base import checkpoint
from hw_base.errors import ConfigError
from hw_tts.losses.vits2 import DurationAdversarialLoss, KLLoss, LogDurationLoss, Magnitudes, SubbandSTFTLoss
from tests.conftest import SHARED

REFERENCE = SHARED / "reference" / "mb_istft_vits2_small.pt"


def mean(value):
    return float(value.total / value.count)


def test_the_divergence_is_the_originals():
    if not REFERENCE.is_file():
        pytest.skip(f"no reference numbers at {REFERENCE}")
    given = checkpoint.load_untrusted(REFERENCE)["outputs"]["losses"]["kl"]
    found = KLLoss()(given["z_p"], given["logs_q"], given["m_p"], given["logs_p"], given["z_mask"].bool())
    assert mean(found) == pytest.approx(float(given["value"]), rel=1e-5)


def test_the_divergence_of_equal_distributions_is_their_noise():
    torch.manual_seed(0)
    log_scale = torch.full((2, 8, 4000), 0.3)
    latent = torch.randn(2, 8, 4000) * math.exp(0.3)
    value = KLLoss()(latent, log_scale, torch.zeros_like(latent), log_scale, torch.ones(2, 1, 4000, dtype=torch.bool))
    assert mean(value) == pytest.approx(0.0, abs=0.05)


def test_padding_is_in_no_loss():
    torch.manual_seed(0)
    mask = torch.tensor([[[True, True, False]]])
    x = torch.randn(4, 1, 5, 3)
    changed = x.clone()
    changed[..., 2] = 1e6
    assert mean(KLLoss()(*x, mask)) == mean(KLLoss()(*changed, mask))
    durations, bad = torch.randn(2, 1, 3), torch.randn(2, 1, 3)
    bad[..., :2] = durations[..., :2]
    assert mean(LogDurationLoss()(*durations, mask)) == mean(LogDurationLoss()(*bad, mask))
    adversarial = DurationAdversarialLoss()
    assert mean(adversarial(durations[0], mask)) == mean(adversarial(bad[0], mask))
    assert mean(adversarial.discriminator(list(durations), mask)) == mean(adversarial.discriminator(list(bad), mask))


def test_durations_are_squared_errors_or_likelihoods():
    mask = torch.ones(1, 1, 2, dtype=torch.bool)
    target, predicted = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.5, 2.0]])
    assert mean(LogDurationLoss()(target, predicted, mask)) == pytest.approx(0.125)
    assert mean(LogDurationLoss()(target, predicted, mask, durations_nll=torch.tensor([3.0]))) == pytest.approx(1.5)


def test_subbands_are_compared_at_every_resolution():
    torch.manual_seed(0)
    real = torch.randn(2, 4, 2048)
    loss = SubbandSTFTLoss()
    assert float(loss(real, real)) == pytest.approx(0.0, abs=1e-6)
    near, far = (float(loss(real, real + share * torch.randn_like(real))) for share in (0.1, 0.5))
    assert 0 < near < far
    # Twice as loud: |2x| - |x| has the norm of |x|, and the logarithms differ by ln 2.
    assert float(loss(real, 2 * real)) == pytest.approx(1.0 + math.log(2.0), rel=1e-4)


@pytest.mark.parametrize("level", [0.0, 1e-5, 3e-4])
def test_a_silent_segment_costs_about_as_much_as_any_other(level):
    torch.manual_seed(0)
    made = (0.1 * torch.randn(2, 4, 2048)).requires_grad_()
    usual = float(SubbandSTFTLoss()(0.1 * torch.randn(2, 4, 2048), made.detach()))
    loss = SubbandSTFTLoss()(level * torch.randn(2, 4, 2048), made)
    loss.backward()
    assert float(loss.detach()) < 10 * usual
    assert bool(torch.isfinite(made.grad).all())


@pytest.mark.parametrize("size", [(384, 30, 150), (683, 60, 300), (171, 10, 60), (16, 4, 16), (9, 2, 5), (10, 3, 5)])
@pytest.mark.parametrize("length", [512, 1023])
def test_magnitudes_are_those_of_a_fourier_transform(size, length):
    torch.manual_seed(0)
    (n_fft, hop, window), x = size, torch.randn(3, length, dtype=torch.float64)
    taper = torch.hann_window(window, dtype=torch.float64)
    expected = torch.stft(x, n_fft, hop, window, taper, return_complex=True).abs().clamp(min=1e-7**0.5)
    torch.testing.assert_close(Magnitudes(*size)(x.float()).double().mT, expected, atol=2e-5, rtol=1e-5)


def test_a_window_longer_than_its_frame_is_refused():
    with pytest.raises(ConfigError, match="window of 400 samples does not fit into an FFT of 384"):
        SubbandSTFTLoss(window_sizes=(400, 300, 60))


def test_resolutions_of_different_counts_are_refused():
    with pytest.raises(ConfigError, match="of one length"):
        SubbandSTFTLoss(fft_sizes=(384, 683))


def test_the_duration_discriminator_is_drawn_apart():
    mask = torch.ones(1, 1, 2, dtype=torch.bool)
    loss = DurationAdversarialLoss()
    right, wrong = torch.ones(1, 2), torch.zeros(1, 2)
    assert mean(loss.discriminator([right, wrong], mask)) == 0.0
    assert mean(loss.discriminator([wrong, right], mask)) == 2.0
    assert mean(loss(right, mask)) == 0.0
    assert mean(loss(wrong, mask)) == 1.0
