import itertools
import logging
import math

import pytest
import torch
from torch.nn import functional as F

from hw_asr.losses.ctc import CTCLoss, check_targets, frames_needed
from hw_base.errors import DataError
from hw_base.registry import LOSSES


def batch(n_frames, targets, n_tokens=5, total=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    total = max(n_frames) if total is None else total
    logits = torch.randn(len(n_frames), total, n_tokens, generator=generator, dtype=torch.float64, requires_grad=True)
    width = max(map(len, targets))
    return logits, {
        "log_probs": logits.log_softmax(-1),
        "log_probs_length": torch.tensor(n_frames),
        "tokens": torch.tensor([[*t, *[0] * (width - len(t))] for t in targets], dtype=torch.int64).view(
            len(targets), width
        ),
        "tokens_length": torch.tensor([len(t) for t in targets]),
        "utterance_id": [f"utt-{i}" for i in range(len(targets))],
        "text": ["x"] * len(targets),
    }


def likelihood(log_probs, target):
    """The definition: the sum over all paths that collapse to the target."""
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if [k for k, _ in itertools.groupby(path) if k] == target:
            total += float(log_probs[range(len(path)), path].sum().exp())
    return total


def test_loss_is_the_sum_over_all_paths():
    targets = [[1, 1], [2], [], [1, 2]]
    lengths = [4, 3, 2, 4]
    _, b = batch(lengths, targets, n_tokens=3, total=6)
    expected = [
        -math.log(likelihood(row[:n].detach(), t)) for row, n, t in zip(b["log_probs"], lengths, targets, strict=True)
    ]
    mean = CTCLoss(normalize_by_length=False)(**b)
    assert mean.total.item() == pytest.approx(sum(expected), abs=1e-5)
    assert mean.count == 4
    mean = CTCLoss()(**b)
    per_token = sum(e / max(len(t), 1) for e, t in zip(expected, targets, strict=True))
    assert mean.total.item() == pytest.approx(per_token, abs=1e-5)


def test_loss_and_gradient_equal_torch():
    targets = [[1, 2, 3, 3, 4], [4], [2, 2]]
    logits, b = batch([20, 1, 12], targets, total=25)
    mean = CTCLoss()(**b, sample_rate=16000)
    (ours,) = torch.autograd.grad(mean.total / mean.count, logits, retain_graph=True)
    expected = F.ctc_loss(b["log_probs"].transpose(0, 1), b["tokens"], b["log_probs_length"], b["tokens_length"])
    (theirs,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(mean.total / mean.count, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)
    assert not ours[1, 1:].any()


@pytest.mark.parametrize("bad", [0, 5, 6, -1, 10**9])
def test_an_id_outside_the_vocabulary_is_named(bad):
    _, b = batch([20, 20], [[1, 2], [3, bad]])
    with pytest.raises(DataError, match=rf"'utt-1': token id {bad} at place 1 is outside 1\.\.4"):
        CTCLoss()(**b)


def test_what_stands_behind_the_target_is_not_looked_at():
    _, b = batch([20, 20], [[1, 2, 3], [3]])
    expected = CTCLoss()(**b).total
    b["tokens"][1, 1:] = 10**9
    assert CTCLoss()(**b).total == expected


@pytest.mark.parametrize("length", [-1, 4])
def test_an_impossible_length_is_named(length):
    _, b = batch([20, 20], [[1, 2, 3], [3]])
    b["tokens_length"][0] = length
    with pytest.raises(DataError, match=f"'utt-0': tokens_length is {length} where there are 3"):
        CTCLoss()(**b)


def unchecked(b):
    tensors = b["tokens"], b["log_probs_length"], b["tokens_length"]
    return F.ctc_loss(b["log_probs"].transpose(0, 1), *tensors, reduction="sum")


def test_frames_needed_is_the_shortest_path():
    for target in itertools.chain(*(itertools.product((1, 2), repeat=n) for n in range(5))):
        tokens = torch.tensor([[*target, 1, 1]])
        [needed] = frames_needed(tokens, torch.tensor([len(target)])).tolist()
        for n_frames in range(1, 8):
            _, b = batch([n_frames], [list(target)], n_tokens=3)
            reached = bool(torch.isfinite(unchecked(b)))
            assert reached == (n_frames >= needed)


def test_a_target_that_does_not_fit_is_left_out_counted_and_named_once(caplog):
    logits, b = batch([20, 3, 20], [[1, 2], [2, 2, 2], [3]])
    loss = CTCLoss()
    with caplog.at_level(logging.WARNING):
        mean = loss(**b)
        loss(**b)
    assert mean.count == 2
    assert loss.skipped_count == 2
    assert [r.message for r in caplog.records if "'utt-1'" in r.message] == [r.message for r in caplog.records]
    assert len(caplog.records) == 1
    (gradient,) = torch.autograd.grad(mean.total, logits, retain_graph=True)
    keep = torch.tensor([0, 2])
    alone = CTCLoss()(**{k: v[keep] if isinstance(v, torch.Tensor) else [v[0], v[2]] for k, v in b.items()})
    (expected,) = torch.autograd.grad(alone.total, logits)
    assert torch.isfinite(gradient).all()
    assert not gradient[1].any()
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(mean.total, alone.total)
    with pytest.raises(DataError, match=r"'utt-1'.*more frames"):
        CTCLoss(on_misfit="fail")(**b)


def test_the_counter_is_no_part_of_the_state():
    assert not CTCLoss().state_dict()


def test_utterances_without_transcript_are_left_out():
    _, b = batch([20, 20], [[1, 2], []])
    expected = CTCLoss()(**{k: v[:1] for k, v in b.items()})
    b["text"] = ["x", None]
    mean = CTCLoss()(**b)
    assert mean.count == 1
    assert mean.total.item() == pytest.approx(expected.total.item())


def test_no_frames():
    logits, b = batch([0, 0], [[1, 2], []], total=0)
    mean = CTCLoss()(**b)
    assert mean.count == 1
    assert mean.total == 0
    mean.total.backward()
    logits, b = batch([0, 20], [[1], [2]])
    mean = CTCLoss()(**b)
    mean.total.backward()
    assert mean.count == 1
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[0].any()


def test_a_broken_network_is_not_hidden():
    _logits, b = batch([20, 20], [[1, 2], [3]])
    b["log_probs"] = b["log_probs"] * torch.tensor([1.0, torch.nan])[:, None, None]
    assert torch.isnan(CTCLoss()(**b).total)


def test_half_precision_posteriors():
    _, b = batch([20, 20], [[1, 2], [3]])
    exact = CTCLoss()(**b).total
    b["log_probs"] = b["log_probs"].bfloat16()
    total = CTCLoss()(**b).total
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(exact.item(), rel=0.02)


def test_check_targets_reports_what_does_not_fit():
    tokens, length = torch.tensor([[1, 1, 1], [1, 2, 3], [4, 0, 0]]), torch.tensor([3, 3, 1])
    assert check_targets(tokens, length, 5, ["a", "b", "c"], frames=torch.tensor([4, 3, 0])) == ["a", "c"]
    assert check_targets(tokens, length, 5, ["a", "b", "c"]) == []
    with pytest.raises(DataError, match="'c': token id 4"):
        check_targets(tokens, length, 4, ["a", "b", "c"])


@pytest.mark.gpu
def test_on_a_gpu_a_foreign_id_makes_nan_and_targets_may_stay_on_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    _, b = batch([20, 3], [[1, 2], [2, 2, 2]])
    expected = CTCLoss()(**b)
    loss = CTCLoss().cuda()
    on_gpu = {k: v.cuda() if k.startswith("log_probs") else v for k, v in b.items()}
    torch.testing.assert_close(loss(**on_gpu).total.cpu(), expected.total)
    all_on_gpu = {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in b.items()}
    torch.testing.assert_close(loss(**all_on_gpu).total.cpu(), expected.total)
    all_on_gpu["tokens"][0, 0] = 10**9
    assert torch.isnan(loss(**all_on_gpu).total)


def test_the_name_of_configs():
    assert LOSSES["CTCLoss"] is CTCLoss
