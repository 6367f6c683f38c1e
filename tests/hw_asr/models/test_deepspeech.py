import pytest
import torch

torchaudio = pytest.importorskip("torchaudio", reason="holds the network")

from hw_asr.checks import check_model  # noqa: E402
from hw_asr.models.deepspeech import DeepSpeech  # noqa: E402
from hw_base.checks import Candidate, broken  # noqa: E402


def small(**arguments) -> DeepSpeech:
    torch.manual_seed(0)
    return DeepSpeech(n_mels=6, n_tokens=5, n_hidden=16, **arguments).eval()


def batch(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectrograms with garbage in the padding."""
    return 3 * torch.randn(len(lengths), 6, max(lengths), generator=torch.Generator().manual_seed(1)), torch.tensor(
        lengths
    )


@torch.no_grad()
def test_numbers_are_those_of_torchaudio():
    model = small()
    reference = torchaudio.models.DeepSpeech(6, 16, 5).eval()
    state = {k: v for k, v in model.network.state_dict().items() if not k.startswith("bi_rnn")}
    for direction, suffix in (("forward_rnn", ""), ("backward_rnn", "_reverse")):
        for name, value in getattr(model.network.bi_rnn, direction).state_dict().items():
            state[f"bi_rnn.{name}{suffix}"] = value
    reference.load_state_dict(state)
    x, lengths = batch([20, 20, 20])
    out = model(x, lengths)
    torch.testing.assert_close(out["log_probs"], reference(x.transpose(1, 2)[:, None]), rtol=0, atol=1e-5)
    assert torch.equal(out["log_probs_length"], lengths)


@pytest.mark.parametrize(("n_context", "stride"), [(0, 1), (2, 1), (3, 2), (0, 3)])
@torch.no_grad()
def test_padding_has_no_influence_and_lengths_agree(n_context, stride):
    model = small(n_context=n_context, stride=stride)
    x, lengths = batch([23, 11, 4, 1])
    together = model(x, lengths, tokens="not used")
    for i, n in enumerate(lengths.tolist()):
        alone = model(x[i : i + 1, :, :n], lengths[i : i + 1])
        frames = -(-n // stride)
        assert alone["log_probs"].shape == (1, frames, 5)
        assert int(alone["log_probs_length"]) == int(together["log_probs_length"][i]) == frames
        assert int(model.output_lengths(lengths)[i]) == frames
        torch.testing.assert_close(together["log_probs"][i, :frames], alone["log_probs"][0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_context_is_the_frames_around_each():
    model = small(n_context=1, stride=2)
    x, lengths = batch([5])
    seen = []
    model.network.fc1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(x, lengths)
    padded = torch.nn.functional.pad(x[0], (1, 1))
    for row, center in enumerate((0, 2, 4)):
        torch.testing.assert_close(seen[0][0, row].view(3, 6).T, padded[:, center : center + 3], rtol=0, atol=0)


@pytest.mark.parametrize("changes", [{"n_context": 1}, {"stride": 3, "dropout": 0.0}])
def test_the_contract_of_models_is_kept(changes):
    assert broken(check_model(Candidate("DeepSpeech", DeepSpeech, {"n_hidden": 48, **changes}))) == []


def test_empty_utterances_give_no_nan():
    x, _ = batch([4, 4])
    out = small()(x, torch.tensor([4, 0]))
    assert out["log_probs_length"].tolist() == [4, 0]
    assert torch.isfinite(out["log_probs"]).all()
    assert torch.isfinite(small()(x[..., :0], torch.tensor([0, 0]))["log_probs"]).all()


@torch.no_grad()
def test_rectified_layers_begin_with_the_scale_of_the_input():
    torch.manual_seed(0)
    model = DeepSpeech(n_mels=40, n_tokens=29, n_hidden=256, dropout=0.0)
    scales = {}
    for name in ("fc1", "fc2", "fc3"):
        layer = getattr(model.network, name)
        layer.register_forward_hook(lambda _, __, x, name=name: scales.update({name: x.square().mean().sqrt()}))
    model(torch.randn(4, 40, 100), torch.full((4,), 100))
    assert all(0.8 < scale < 1.25 for scale in scales.values()), scales
