import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hw_tts.models.blocks.postnet import CBHG, PostNet, make_postnet

LENGTHS = [12, 1, 7]


def trained(network):
    """In evaluation, with running statistics that training has moved, and norms that do something."""
    for name, p in network.named_parameters():
        if "norm" in name:
            nn.init.uniform_(p, 0.5, 1.5)
    for _ in range(3):
        network(torch.randn(4, 5, 20) * 2 + 1, torch.tensor([20, 15, 10, 5]))
    return network.eval()


def small(kind):
    torch.manual_seed(0)
    return PostNet(5, channels=8) if kind == "tacotron2" else CBHG(5, n_kernels=4, channels=6)


@pytest.mark.parametrize("kind", ["tacotron2", "cbhg"])
@torch.no_grad()
def test_padding_has_no_influence(kind):
    network = trained(small(kind))
    padded = torch.zeros(3, 5, 16)
    for row, n in zip(padded, LENGTHS, strict=True):
        row[:, :n] = torch.randn(5, n)
    out = network(padded, torch.tensor(LENGTHS))
    for i, n in enumerate(LENGTHS):
        alone = network(padded[i : i + 1, :, :n], torch.tensor([n]))
        torch.testing.assert_close(out[i, :, :n], alone[0], atol=1e-5, rtol=0)
        assert (out[i, :, n:] == 0).all()


@pytest.mark.parametrize("kind", ["tacotron2", "cbhg"])
def test_statistics_of_training_do_not_see_padding(kind):
    spectrogram, length = torch.randn(2, 5, 9), torch.tensor([9, 9])
    outs = []
    for extra in (0, 30):
        network = small(kind)
        network.dropout = nn.Identity()
        outs.append(network(F.pad(spectrogram, (0, extra)), length)[..., :9])
    torch.testing.assert_close(outs[0], outs[1], atol=1e-5, rtol=0)


def norm(ours):
    theirs = nn.BatchNorm1d(len(ours.weight)).eval()
    theirs.load_state_dict(ours.state_dict())
    return theirs


@torch.no_grad()
def test_postnet_equals_plain_layers():
    network, x = trained(small("tacotron2")), torch.randn(1, 5, 11)
    y = x
    for i in range(5):
        y = norm(network.norms[i])(F.conv1d(y, network.convs[i].weight, network.convs[i].bias, padding=2))
        y = y.tanh() if i < 4 else y
    torch.testing.assert_close(network(x, torch.tensor([11])), y, atol=1e-5, rtol=0)


@torch.no_grad()
def test_cbhg_equals_plain_layers():
    """The layers of Tacotron as widely implemented, even kernels and pooling one frame back included."""
    network, x = trained(small("cbhg")), torch.randn(1, 5, 11)

    def block(layer, y, kernel):
        y = F.conv1d(y, layer.conv.weight, padding=kernel // 2)
        return norm(layer.norm)(y.relu() if layer.activation else y)

    y = torch.cat([block(layer, x, k)[..., :11] for k, layer in enumerate(network.bank, start=1)], dim=1)
    y = F.max_pool1d(y, kernel_size=2, stride=1, padding=1)[..., :11]
    y = (block(network.projection2, block(network.projection1, y, 3), 3) + x).mT
    for highway in network.highways:
        gate = highway.gate(y).sigmoid()
        y = gate * highway.change(y).relu() + (1 - gate) * y
    gru = nn.GRU(5, 5, batch_first=True, bidirectional=True)
    state = network.rnn.forward_rnn.state_dict()
    state |= {f"{name}_reverse": value for name, value in network.rnn.backward_rnn.state_dict().items()}
    gru.load_state_dict(state)
    expected = network.out(gru(y)[0]).mT
    torch.testing.assert_close(network(x, torch.tensor([11])), expected, atol=1e-5, rtol=0)


def test_make_postnet():
    assert make_postnet("none", 5) is None
    assert sum(p.numel() for p in make_postnet("tacotron2", 80).parameters()) == 4_348_144
    # 921,312 and 12,880 as published, less a layer of 80 x 80 that is never called there
    assert sum(p.numel() for p in make_postnet("cbhg", 80).parameters()) == 921_312 - 6_400 + 12_880
