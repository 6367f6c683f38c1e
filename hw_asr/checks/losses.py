"""What every loss on CTC posteriors keeps to."""

import inspect
from typing import Any

import torch
from torch import nn

from hw_base.checks import Candidate, Contract, Outcome, declare, expect
from hw_base.checks.losses import LOSS, LossInputs
from hw_base.nn.losses import as_sum_and_count

POSTERIOR_LOSS: Contract[Candidate] = Contract("loss on posteriors")

_LENGTHS, _TOKENS = [12, 7, 9], [[1, 2, 2], [3], [4, 1]]
_V = 5


def check_loss(candidate: Candidate) -> list[Outcome]:
    """All properties of a loss that is given ``log_probs``."""
    return LOSS.check(lambda: _inputs(candidate)) + POSTERIOR_LOSS.check(candidate)


def _inputs(candidate: Candidate) -> LossInputs:
    generator = torch.Generator().manual_seed(0)
    length = torch.tensor(_LENGTHS)
    log_probs = torch.randn(3, 14, _V, generator=generator).log_softmax(-1)
    tokens = torch.zeros(3, 4, dtype=torch.int64)
    for row, ids in zip(tokens, _TOKENS, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    batch: dict[str, Any] = {
        "log_probs": log_probs,
        "intermediate_log_probs": torch.stack([log_probs, log_probs.flip(2)]),
        "log_probs_length": length,
        "tokens": tokens,
        "tokens_length": torch.tensor([len(ids) for ids in _TOKENS]),
        "utterance_id": ["a", "b", "c"],
        "text": ["x", "y", "z"],
    }
    taken = inspect.signature(candidate.target.forward).parameters  # type: ignore[attr-defined]
    key = "intermediate_log_probs" if "intermediate_log_probs" in taken else "log_probs"
    after = torch.arange(14) >= length[:, None]
    masks = {key: after[..., None], "tokens": torch.arange(4) >= batch["tokens_length"][:, None]}
    perfect = torch.full((3, 14, _V), -50.0)
    for row, ids in zip(perfect, _TOKENS, strict=True):
        path = [token for one in ids for token in (one, 0)]
        path += [0] * (14 - len(path))
        row[torch.arange(14), torch.tensor(path)] = 0.0
    best = torch.stack([perfect, perfect]) if key != "log_probs" else perfect
    return LossInputs(candidate.build(), batch, [key], masks, ({key: best.log_softmax(-1)}, 0.0), _posteriors)


def _posteriors(logits: torch.Tensor) -> torch.Tensor:
    return logits.log_softmax(-1)


@POSTERIOR_LOSS.property("another token than 0 is used as the blank, or targets are shifted by one")
def the_blank_is_token_0(candidate: Candidate) -> None:
    inputs = _inputs(candidate)
    key = inputs.predicted[0]
    silent = torch.full(inputs.batch[key].shape, -50.0)
    silent[..., 0] = 0.0
    empty = {"tokens": torch.zeros(3, 0, dtype=torch.int64), "tokens_length": torch.zeros(3, dtype=torch.int64)}
    mean = as_sum_and_count(inputs.loss(**{**inputs.batch, **empty, key: silent.log_softmax(-1)}))
    found = float(mean.total / mean.count.clamp(min=1))
    expect(abs(found) < 1e-3, "0 for blanks alone where nothing is said", f"{found:.4g}")


@POSTERIOR_LOSS.property("utterances without a transcript count as empty ones and teach silence")
def an_utterance_without_transcript_has_no_part(candidate: Candidate) -> None:
    inputs = _inputs(candidate)
    partial = as_sum_and_count(inputs.loss(**{**inputs.batch, "text": ["x", None, "z"]}))
    whole = as_sum_and_count(inputs.loss(**inputs.batch))
    expect(float(partial.count) < float(whole.count), "fewer utterances to count", f"{float(partial.count):g}")


def check_consistency(candidate: Candidate) -> list[Outcome]:
    """All properties of a loss that compares two views of each utterance."""

    def make() -> LossInputs:
        generator = torch.Generator().manual_seed(0)
        first, second = torch.randn(2, 3, 14, _V, generator=generator).log_softmax(-1)
        length = torch.tensor(_LENGTHS * 2)
        batch = {
            "log_probs": torch.cat([first, second]),
            "log_probs_length": length,
            "tokens_length": torch.tensor([3, 1, 2] * 2),
            "n_views": 2,
        }
        mask = {"log_probs": (torch.arange(14) >= length[:, None])[..., None]}
        return LossInputs(candidate.build(), batch, [], mask, ({"log_probs": torch.cat([first, first])}, 0.0))

    return LOSS.check(make)


def check_transducer(candidate: Candidate) -> list[Outcome]:
    """All properties of a loss that is given states of encoder and predictor."""

    def make() -> LossInputs:
        generator = torch.Generator().manual_seed(0)
        batch = dict(_inputs(candidate).batch)
        states = {"encoder_states": (3, 14, 6), "predictor_states": (3, 5, 6), "joiner_weight": (_V, 6)}
        batch |= {key: torch.randn(shape, generator=generator) for key, shape in states.items()}
        batch["joiner_bias"] = torch.randn(_V, generator=generator)
        masks = {
            "encoder_states": (torch.arange(14) >= batch["log_probs_length"][:, None])[..., None],
            "predictor_states": (torch.arange(5) > batch["tokens_length"][:, None])[..., None],
            "tokens": torch.arange(4) >= batch["tokens_length"][:, None],
        }
        # A blank that is certain, whatever came before, costs nothing where nothing is said.
        sure = torch.full((_V,), -50.0)
        sure[0] = 50.0
        silent = {"joiner_bias": sure, "tokens_length": torch.zeros(3, dtype=torch.int64)}
        return LossInputs(candidate.build(), batch, [*states, "joiner_bias"], masks, (silent, 0.0))

    return LOSS.check(make)


def _takes(target: Any) -> set[str]:
    is_network = isinstance(target, type) and issubclass(target, nn.Module)
    return set(inspect.signature(target.forward).parameters) if is_network else set()


declare(
    "losses",
    check_loss,
    lambda target: {"log_probs_length", "tokens", "tokens_length"} <= _takes(target),
    "a loss whose forward takes log_probs_length, tokens and tokens_length",
)
declare(
    "losses",
    check_transducer,
    lambda target: {"encoder_states", "predictor_states"} <= _takes(target),
    "a loss whose forward takes encoder_states and predictor_states",
)
declare(
    "losses",
    check_consistency,
    lambda target: {"log_probs", "n_views"} <= _takes(target),
    "a loss whose forward takes log_probs and n_views",
)
