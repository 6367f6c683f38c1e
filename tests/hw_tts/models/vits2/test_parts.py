"""The parts for which there are no public numbers: splines, stochastic durations, attention, banks, transforms."""

import math

import pytest
import torch
from torch.nn import functional as F

from hw_tts.models.blocks.weight_norm import fold_weight_norm
from hw_tts.models.vits2.attentions import RelativeAttention, skew, unskew
from hw_tts.models.vits2.decoder import DECODERS, DecoderSizes, one_more
from hw_tts.models.vits2.duration_predictors import StochasticDurationPredictor
from hw_tts.models.vits2.filter_bank import FilterBank
from hw_tts.models.vits2.flow import Flow
from hw_tts.models.vits2.inverse_stft import InverseSTFT, overlap_add, phases
from hw_tts.models.vits2.layers import length_mask
from hw_tts.models.vits2.spline import rational_quadratic
from tests.hw_tts.models.vits2.small import wake


def reconstruction(bank, delay):
    torch.manual_seed(0)
    waveform = torch.randn(1, 24 * 400)
    made = bank.synthesis(bank.analysis(waveform))
    inner = slice(256, -256)
    error = made[:, delay:][:, inner] - waveform[:, : made.shape[1] - delay][:, inner]
    return 10 * math.log10(waveform[:, inner].square().mean() / error.square().mean())


def test_the_exact_bank_reconstructs_and_the_public_one_does_not():
    assert reconstruction(FilterBank(4, "exact"), delay=0) > 60
    assert 14 < reconstruction(FilterBank(4, "public"), delay=1) < 18
    assert reconstruction(FilterBank(4, "public"), delay=0) < 10


@pytest.mark.parametrize("subbands", [2, 3, 8])
def test_the_exact_bank_of_another_size_reconstructs(subbands):
    assert reconstruction(FilterBank(subbands, "exact"), delay=0) > 50


def test_each_band_holds_its_frequencies():
    seconds = torch.arange(8192) / 8192
    bank = FilterBank(4, "exact")
    for band in range(4):
        tone = torch.sin(2 * math.pi * (512 + 1024 * band) * seconds)  # the middle of the band
        power = bank.analysis(tone.unsqueeze(0)).square().mean(dim=-1)[0]
        assert int(power.argmax()) == band
        assert float(power[band] / power.sum()) > 0.999


def test_banks_are_no_part_of_the_state():
    assert not FilterBank().state_dict()
    assert not InverseSTFT(16, 4).state_dict()


@pytest.mark.parametrize(("n_fft", "hop_length"), [(16, 4), (32, 8), (16, 8)])
def test_the_inverse_transform_is_torchs(n_fft, hop_length):
    torch.manual_seed(0)
    magnitude, phase = torch.rand(3, n_fft // 2 + 1, 20), torch.randn(3, n_fft // 2 + 1, 20)
    expected = torch.istft(
        magnitude * torch.exp(1j * phase), n_fft, hop_length, n_fft, torch.hann_window(n_fft), center=True
    )
    torch.testing.assert_close(InverseSTFT(n_fft, hop_length)(magnitude, phase), expected, rtol=1e-4, atol=1e-5)


def test_the_spline_is_monotonic_and_inverts():
    torch.manual_seed(0)
    x = torch.linspace(-7, 7, 400, dtype=torch.float64).requires_grad_()
    knots = [torch.randn(size, dtype=torch.float64).expand(400, size) for size in (10, 10, 9)]
    y, log_slope = rational_quadratic(x, *knots, bound=5.0)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(log_slope, slope.log())
    assert bool((y.diff() > 0).all())
    assert torch.equal(y[x.abs() > 5], x[x.abs() > 5])
    back, inverse_log_slope = rational_quadratic(y.detach(), *knots, bound=5.0, inverse=True)
    torch.testing.assert_close(back, x.detach())
    torch.testing.assert_close(inverse_log_slope, -log_slope.detach())


def test_the_flow_inverts_and_keeps_volume():
    torch.manual_seed(0)
    flow = wake(Flow(4, 8, n_flows=2, n_layers=2, speaker_channels=3)).double()
    z, speaker = torch.randn(1, 4, 5, dtype=torch.float64), torch.randn(1, 3, 1, dtype=torch.float64)
    torch.testing.assert_close(flow(flow(z, None, speaker), None, speaker, inverse=True), z)
    jacobian = torch.autograd.functional.jacobian(lambda x: flow(x, None, speaker), z).view(20, 20)
    torch.testing.assert_close(jacobian.det().abs(), torch.ones((), dtype=torch.float64))
    assert not torch.allclose(flow(z, None, speaker), z)


def stochastic():
    torch.manual_seed(0)
    return wake(StochasticDurationPredictor(8, 3, 0.0, n_flows=2, speaker_channels=4)).eval()


@torch.no_grad()
def test_the_stochastic_predictor_ignores_padding():
    predictor = stochastic()
    hidden, speaker = torch.randn(2, 8, 6), torch.randn(2, 4, 1)
    mask = length_mask(torch.tensor([6, 4]), 6)
    drawn = predictor(hidden, mask, speaker, noise=0.0)
    alone = predictor(hidden[1:, :, :4], None, speaker[1:], noise=0.0)
    torch.testing.assert_close(drawn[1:, :4], alone)
    assert not drawn[1, 4:].any()


def test_flows_of_the_stochastic_predictor_invert_and_know_their_volume():
    predictor = stochastic()
    condition, mask = torch.randn(1, 8, 3), torch.ones(1, 1, 3, dtype=torch.bool)

    def through(z):
        total = z.new_zeros(1)
        for step in predictor.flows:
            z, change = step(z, mask, condition)
            total = total + change
        return z, total

    z = torch.randn(1, 2, 3)
    made, log_determinant = through(z)
    jacobian = torch.autograd.functional.jacobian(lambda x: through(x)[0], z).view(6, 6)
    torch.testing.assert_close(log_determinant, jacobian.det().abs().log().view(1), rtol=1e-3, atol=1e-4)
    back = made
    for step in reversed(predictor.flows):
        back, _ = step(back, mask, condition, inverse=True)
    torch.testing.assert_close(back, z, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_stochastic_predictor_learns_durations():
    predictor = stochastic()
    hidden = torch.randn(1, 8, 6).expand(8, -1, -1)
    mask = torch.ones(8, 1, 6, dtype=torch.bool)
    durations = torch.tensor([1.0, 3.0, 6.0, 2.0, 12.0, 5.0]).expand(8, -1)
    optimizer = torch.optim.Adam(predictor.parameters(), lr=1e-2)
    first = float(predictor.nll(hidden, mask, durations).mean().detach())
    for _ in range(60):
        optimizer.zero_grad()
        loss = predictor.nll(hidden, mask, durations).mean()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < first - 5
    with torch.no_grad():
        drawn = torch.ceil(torch.exp(predictor(hidden, mask, noise=0.3)))
    assert float((drawn - durations).abs().mean()) < 1.5


def test_skewing_places_distances_and_unskewing_takes_them_back():
    T, window = 7, 3
    relative = torch.randn(2, T, 2 * window + 1)
    placed = skew(relative, window)
    for i in range(T):
        for j in range(T):
            inside = abs(j - i) <= window
            assert torch.equal(placed[:, i, j], relative[:, i, j - i + window] if inside else torch.zeros(2))
    taken = unskew(placed, window)
    for i in range(T):
        for k in range(2 * window + 1):
            inside = 0 <= i + k - window < T
            assert torch.equal(taken[:, i, k], relative[:, i, k] if inside else torch.zeros(2))


@torch.no_grad()
def test_attention_is_the_papers_formula():
    torch.manual_seed(0)
    attention = RelativeAttention(8, 2, dropout=0.0, window=2)
    x, T, size = torch.randn(1, 8, 5), 5, 4
    query, key, value = (conv(x)[0].view(2, size, T) for conv in (attention.conv_q, attention.conv_k, attention.conv_v))
    mixed = torch.zeros(2, size, T)
    for head in range(2):
        for i in range(T):
            distances = [max(-3, min(3, j - i)) for j in range(T)]
            k_rel = [attention.emb_rel_k[0, d + 2] if abs(d) <= 2 else torch.zeros(size) for d in distances]
            v_rel = [attention.emb_rel_v[0, d + 2] if abs(d) <= 2 else torch.zeros(size) for d in distances]
            scores = [query[head, :, i] @ (key[head, :, j] + k_rel[j]) / math.sqrt(size) for j in range(T)]
            weights = F.softmax(torch.stack(scores), dim=0)
            mixed[head, :, i] = sum(weights[j] * (value[head, :, j] + v_rel[j]) for j in range(T))
    torch.testing.assert_close(attention(x, None), attention.conv_o(mixed.view(1, 8, T)))


@pytest.mark.parametrize("kind", DECODERS)
@torch.no_grad()
def test_folding_weight_norm_changes_no_number(kind):
    torch.manual_seed(0)
    decoder = DECODERS[kind](DecoderSizes(8, upsample_initial_channels=16, upsample_rates=(4, 4)))
    for key, parameter in decoder.named_parameters():
        if key.endswith("original0"):
            parameter.mul_(1.5)
    z = torch.randn(2, 8, 6)
    before, _ = decoder(z)
    fold_weight_norm(decoder)
    assert not any("parametrizations" in key for key in decoder.state_dict())
    torch.testing.assert_close(decoder(z)[0], before, rtol=1e-5, atol=1e-6)


def test_the_frame_in_front_is_mirrored():
    x = torch.randn(2, 3, 5)
    assert torch.equal(one_more(x), F.pad(x, (1, 0), mode="reflect"))


@pytest.mark.parametrize(("size", "stride"), [(16, 4), (63, 4), (5, 3), (2, 4)])
def test_overlap_add_is_a_transposed_convolution(size, stride):
    torch.manual_seed(0)
    x, filters = torch.randn(2, 3, 7), torch.randn(3, size)
    expected = F.conv_transpose1d(x, filters.unsqueeze(1), stride=stride).squeeze(1)
    made = overlap_add(x, phases(filters, stride))
    assert made.shape[1] == 6 * stride + -(-size // stride) * stride
    torch.testing.assert_close(made[:, : expected.shape[1]], expected)
    assert not made[:, expected.shape[1] :].any()
