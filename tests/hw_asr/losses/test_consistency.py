import pytest
import torch
from torch.nn import functional as F

from hw_asr.losses.consistency import ConsistencyLoss
from hw_base.errors import ConfigError


def batch(lengths=(7, 4), n_tokens=5, seed=0, tokens=(3, 2)):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2 * len(lengths), max(lengths), n_tokens, generator=generator, dtype=torch.float32)
    logits.requires_grad_()
    return logits, {
        "log_probs": logits.log_softmax(-1),
        "log_probs_length": torch.tensor(lengths).repeat(2),
        "tokens_length": torch.tensor(tokens).repeat(2),
        "n_views": 2,
    }


def formula(log_probs, lengths):
    """Equation 3 with its stopped gradients, one frame after another."""
    first, second = log_probs.chunk(2)
    totals = []
    for a, b, n in zip(first, second, lengths, strict=True):
        terms = [F.kl_div(a[t], b[t].detach().exp(), reduction="sum") for t in range(n)]
        terms += [F.kl_div(b[t], a[t].detach().exp(), reduction="sum") for t in range(n)]
        totals.append(torch.stack(terms).sum() / 2)
    return torch.stack(totals)


@pytest.mark.parametrize("normalize", [False, True])
def test_value_and_gradient_are_those_of_the_formula(normalize):
    logits, b = batch()
    mean = ConsistencyLoss(normalize_by_length=normalize)(**b)
    (ours,) = torch.autograd.grad(mean.total / mean.count, logits, retain_graph=True)
    expected = formula(b["log_probs"], (7, 4)) / (torch.tensor([3.0, 2.0]) if normalize else 1.0)
    (theirs,) = torch.autograd.grad(expected.mean(), logits)
    assert mean.count == 2
    torch.testing.assert_close(mean.total, expected.sum())
    torch.testing.assert_close(ours, theirs)


def test_equal_views_cost_nothing_and_padding_has_no_part():
    _, b = batch()
    same = {**b, "log_probs": torch.cat([b["log_probs"][:2]] * 2)}
    assert ConsistencyLoss()(**same).total == 0
    changed = b["log_probs"].detach().clone()
    changed[1, 4:] = 9.0
    changed[3, 4:] = -9.0
    assert ConsistencyLoss()(**{**b, "log_probs": changed}).total == pytest.approx(
        ConsistencyLoss()(**b).total.item(), rel=1e-6
    )


def test_one_view_is_refused():
    _, b = batch()
    with pytest.raises(ConfigError, match="ConsistencyTrainer"):
        ConsistencyLoss()(**{**b, "n_views": 1})
