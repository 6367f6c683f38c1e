import inspect

import pytest
import torch
from torch import nn

from hw_asr.checks import check_model
from hw_asr.losses.ctc import CTCLoss
from hw_asr.models import DeepSpeech2
from hw_base.checks import Candidate, broken
from hw_base.errors import ConfigError
from hw_base.registry import MODELS

SMALL = {"n_mels": 20, "n_tokens": 7, "n_layers": 2, "n_hidden": 12, "conv_channels": (4, 6), "dropout": 0.0}


def model(seed=0, **changes):
    torch.manual_seed(seed)
    return DeepSpeech2(**{**SMALL, **changes})


def with_statistics(network):
    """In evaluation, with running statistics that training has moved."""
    network.train()
    for _ in range(3):
        network(torch.randn(4, SMALL["n_mels"], 50) * 2 + 1, torch.tensor([50, 40, 30, 20]))
    return network.eval()


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 5, 11])
@pytest.mark.parametrize("channels", [(3,), (3, 3), (3, 3, 3)])
@torch.no_grad()
def test_output_lengths_are_those_of_the_output(stride, kernel, channels):
    kernels = ((5, kernel), (3, 3), (3, kernel))
    network = model(conv_channels=channels, kernel_sizes=kernels, time_stride=stride, n_layers=1).eval()
    for n_frames in [*range(1, 30), 99, 100, 101]:
        out = network(torch.randn(1, 20, n_frames), torch.tensor([n_frames]))
        expected = network.output_lengths(torch.tensor([n_frames]))
        assert out["log_probs"].shape == (1, int(expected), 7)
        assert torch.equal(out["log_probs_length"], expected)
        assert expected.dtype == torch.int64
    assert network.output_lengths(torch.tensor([0])).item() == 0


@pytest.mark.parametrize("n_mels", [1, 2, 13, 20, 40, 64, 80])
def test_any_number_of_bins(n_mels):
    out = model(n_mels=n_mels, conv_channels=(4, 6, 5))(torch.randn(2, n_mels, 9), torch.tensor([9, 4]))
    assert out["log_probs"].shape == (2, 5, 7)
    out["log_probs"].sum().backward()


def test_kernels_are_no_taller_than_their_input():
    kernels = [c.conv.kernel_size for c in model(n_mels=20, conv_channels=(4, 4, 4)).convs]
    assert kernels == [(19, 11), (9, 11), (5, 11)]


@pytest.mark.parametrize("changes", [{}, {"cell": "lstm", "combine": "concat", "conv_channels": (4, 4, 5)}])
@torch.no_grad()
def test_an_utterance_alone_equals_itself_in_a_padded_batch(changes):
    network = with_statistics(model(**changes))
    lengths = [61, 1, 2, 17, 60, 33]
    spectrograms = [torch.randn(20, n) for n in lengths]
    padded = torch.full((len(lengths), 20, 75), torch.nan)
    for row, spectrogram in zip(padded, spectrograms, strict=True):
        row[:, : spectrogram.shape[1]] = spectrogram
    out = network(padded, torch.tensor(lengths))
    for i, spectrogram in enumerate(spectrograms):
        alone = network(spectrogram[None], torch.tensor([lengths[i]]))
        n_frames = int(alone["log_probs_length"])
        assert n_frames == out["log_probs_length"][i] == alone["log_probs"].shape[1]
        torch.testing.assert_close(out["log_probs"][i, :n_frames], alone["log_probs"][0], atol=1e-5, rtol=0)


def test_training_does_not_depend_on_padding_either():
    spectrogram, length = torch.randn(3, 20, 30), torch.tensor([30, 12, 25])
    a, b = model(), model()
    short = a(spectrogram, length)["log_probs"]
    long = b(nn.functional.pad(spectrogram, (0, 40), value=5.0), length)["log_probs"]
    for i, n_frames in enumerate(a.output_lengths(length).tolist()):
        torch.testing.assert_close(short[i, :n_frames], long[i, :n_frames], atol=1e-5, rtol=0)
    for name, value in a.state_dict().items():
        torch.testing.assert_close(value, b.state_dict()[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("changes", [{}, {"cell": "lstm", "combine": "concat", "conv_channels": [3, 3, 3]}])
def test_the_contract_of_models_is_kept(changes):
    args = {"n_layers": 2, "n_hidden": 12, "conv_channels": [4, 6], "dropout": 0.0, **changes}
    assert broken(check_model(Candidate("DeepSpeech2", DeepSpeech2, args))) == []


def test_training_begins_undecided():
    for seed in range(3):
        network = model(seed, n_mels=64, n_tokens=29, n_hidden=64)
        log_probs = network(torch.randn(4, 64, 50), torch.full((4,), 50))["log_probs"]
        share = log_probs.detach().exp()
        torch.testing.assert_close(share.sum(-1), torch.ones(4, 25))
        assert float(share.max()) < 3 / 29
        assert float(share.min()) > 1 / 29 / 3


def test_it_learns_a_batch_by_heart():
    torch.manual_seed(0)
    network = model(n_hidden=24)
    batch = {
        "tokens": torch.randint(1, 7, (4, 5)),
        "tokens_length": torch.tensor([5, 4, 3, 5]),
        "utterance_id": list("abcd"),
        "spectrogram": torch.randn(4, 20, 40),
        "spectrogram_length": torch.tensor([40, 33, 25, 38]),
    }
    optimizer, loss = torch.optim.Adam(network.parameters(), 1e-2), CTCLoss()
    for _ in range(60):
        mean = loss(**batch, **network(**batch))
        optimizer.zero_grad()
        mean.total.backward()
        optimizer.step()
    assert float(mean.total.detach()) / 4 < 0.1


@torch.no_grad()
def test_convolutions_and_recurrences_are_the_ones_of_torch():
    network = with_statistics(model())
    x = torch.randn(2, 20, 31)
    expected = x[:, None]
    for block in network.convs:
        norm = nn.BatchNorm2d(block.conv.out_channels).eval()
        norm.load_state_dict(block.norm.state_dict())
        expected = norm(block.conv(expected)).clamp(0, 20)
    expected = expected.flatten(1, 2).transpose(1, 2)
    for layer, masked in zip(network.rnns, network.norms, strict=True):
        rnn = nn.GRU(expected.shape[-1], 12, batch_first=True, bidirectional=True)
        back = {f"{name}_reverse": value for name, value in layer.backward_rnn.state_dict().items()}
        rnn.load_state_dict(layer.forward_rnn.state_dict() | back)
        norm = nn.BatchNorm1d(12).eval()
        norm.load_state_dict(masked.state_dict())
        ahead, back = rnn(expected)[0].chunk(2, dim=-1)
        expected = norm((ahead + back).transpose(1, 2)).transpose(1, 2)
    expected = network.head(expected).log_softmax(-1)
    out = network(x, torch.tensor([31, 31]))["log_probs"]
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


def test_posteriors_are_single_precision_under_autocast():
    network = with_statistics(model())
    x, length = torch.randn(2, 20, 30), torch.tensor([30, 20])
    with torch.autocast("cpu", torch.bfloat16):
        out = network(x, length)["log_probs"]
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, network(x, length)["log_probs"], atol=0.1, rtol=0)


@pytest.mark.parametrize("n_frames", [0, 1, 2, 5])
def test_next_to_no_frames(n_frames):
    network = model()
    out = network(torch.randn(2, 20, n_frames), torch.tensor([n_frames, 0]))
    assert out["log_probs_length"].tolist() == [-(-n_frames // 2), 0]
    assert torch.isfinite(out["log_probs"]).all()
    out["log_probs"].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_unusable_kernels_are_refused():
    with pytest.raises(ConfigError, match=r"\[4, 11\] has an even number"):
        model(kernel_sizes=((4, 11), (3, 3)))
    with pytest.raises(ConfigError, match="kernel_sizes: 1 given for 2"):
        model(kernel_sizes=((3, 11),))


def test_sizes():
    assert model(n_mels=80, n_tokens=29, n_layers=3, n_hidden=160).n_parameters() < 1.8e6
    default = {p.name: p.default for p in inspect.signature(DeepSpeech2).parameters.values()}
    assert default["n_layers"] == 5
    assert default["cell"] == "gru"
    paper = DeepSpeech2(161, 29, conv_channels=(32, 32, 96), n_layers=7, n_hidden=512)
    assert [tuple(c.conv.weight.shape) for c in paper.convs] == [(32, 1, 41, 11), (32, 32, 21, 11), (96, 32, 21, 11)]


def test_the_name_of_configs():
    assert MODELS["DeepSpeech2"] is DeepSpeech2
