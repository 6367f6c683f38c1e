"""What length regulators and alignment searches keep to: plain loops over small cases are the measure."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from hw_base.checks import Candidate, Contract, Outcome, declare, expect, expect_close
from hw_tts.alignment.search import Engine, search_path
from hw_tts.models.blocks.regulator import LengthRegulator

REGULATOR: Contract[Candidate] = Contract("length regulator")
ALIGNER: Contract[Candidate] = Contract("alignment search")

# Zero durations at every place, one token, all frames in one token, tokens that are padding, nothing at all.
_DURATIONS = torch.tensor([[3, 0, 2, 1, 0], [0, 0, 7, 1, 4], [1, 0, 0, 0, 0], [0, 12, 0, 0, 0], [0, 0, 0, 0, 0]])


def check_regulator(candidate: Candidate) -> list[Outcome]:
    """All properties of what repeats tokens: called with hidden (B, L, D) and durations (B, L)."""
    return REGULATOR.check(candidate)


def check_aligner(candidate: Candidate) -> list[Outcome]:
    """All properties of a search: scores (B, T, L), frames (B,) and tokens (B,) -> path of 0 and 1 (B, T, L)."""
    return ALIGNER.check(candidate)


def _hidden(n_batch: int = 5, n_tokens: int = 5, width: int = 6) -> Tensor:
    return torch.randn(n_batch, n_tokens, width, generator=torch.Generator().manual_seed(0))


def _by_loop(hidden: Tensor, durations: Tensor, n_frames: int) -> Tensor:
    out = hidden.new_zeros(hidden.shape[0], n_frames, hidden.shape[2])
    for b, row in enumerate(durations.tolist()):
        tokens = [token for token, n in enumerate(row) for _ in range(n)][:n_frames]
        for frame, token in enumerate(tokens):
            out[b, frame] = hidden[b, token]
    return out


@REGULATOR.property("tokens of no frames are given one, or shift those behind them; positions are off by one")
def every_token_lasts_its_frames(candidate: Candidate) -> None:
    expanded, _ = candidate.build()(_hidden(), _DURATIONS)
    expect_close(expanded, _by_loop(_hidden(), _DURATIONS, 12), "tokens repeated one by one, then zeros", 1e-6)


@REGULATOR.property("frames counts tokens, or the longest utterance's frames for all")
def frames_are_the_sums_of_durations(candidate: Candidate) -> None:
    _, frames = candidate.build()(_hidden(), _DURATIONS)
    expect(frames.tolist() == [6, 12, 1, 12, 0], "frames [6, 12, 1, 12, 0]", frames.tolist())


@REGULATOR.property("max_frames is not looked at, or cuts the wrong end")
def what_lies_beyond_max_frames_is_cut_off(candidate: Candidate) -> None:
    for limit in (15, 4):
        expanded, frames = candidate.build()(_hidden(), _DURATIONS, limit)
        expect_close(expanded, _by_loop(_hidden(), _DURATIONS, limit), f"the first {limit} frames", 1e-6)
        expect(int(frames.max()) <= limit, f"at most {limit} frames", frames.tolist())


@REGULATOR.property("sums of durations in half precision cannot tell positions above 256 apart")
def half_precision_misplaces_nothing(candidate: Candidate) -> None:
    durations = torch.randint(0, 9, (2, 200), generator=torch.Generator().manual_seed(1))
    hidden = _hidden(2, 200, 2).bfloat16()
    expanded, frames = candidate.build()(hidden, durations)
    expected = _by_loop(hidden, durations, int(frames.max()))
    expect(torch.equal(expanded.float(), expected.float()), "the frames of a loop, in bfloat16", "others")


@REGULATOR.property("the result is detached, or tokens get the gradient of one frame only")
def the_gradient_counts_every_frame(candidate: Candidate) -> None:
    hidden = _hidden().requires_grad_()
    candidate.build()(hidden, _DURATIONS)[0].sum().backward()
    found = hidden.grad if hidden.grad is not None else torch.zeros(5, 5, 6)
    expect_close(found[:, :, 0], _DURATIONS.float(), "a gradient of as many as a token has frames")


_CASES = [(8, 3), (7, 5), (5, 5), (4, 1), (8, 4), (1, 1), (3, 2)]


def _searched(candidate: Candidate) -> Iterator[tuple[Tensor, Tensor, int, int]]:
    """Path and scores of one utterance without padding, with its sizes."""
    scores = torch.randn(len(_CASES), 9, 6, generator=torch.Generator().manual_seed(0)) * 3
    lengths = torch.tensor(_CASES)
    path = candidate.build()(scores.clone(), lengths[:, 0], lengths[:, 1])
    expect(path.shape == scores.shape, f"a path of shape {tuple(scores.shape)}", tuple(path.shape))
    for one, score, (n_frames, n_tokens) in zip(path, scores, _CASES, strict=True):
        expect(
            not one[n_frames:].any() and not one[:, n_tokens:].any(),
            "zeros in the padding",
            "a path that continues there",
        )
        yield one[:n_frames, :n_tokens], score[:n_frames, :n_tokens], n_frames, n_tokens


def _paths(n_frames: int, n_tokens: int) -> Iterator[list[int]]:
    for cuts in itertools.combinations(range(1, n_frames), n_tokens - 1):
        ends = [*cuts, n_frames]
        yield [next(token for token, end in enumerate(ends) if frame < end) for frame in range(n_frames)]


@ALIGNER.property("an argmax over tokens for each frame, or a step back of the trace in the wrong order")
def the_path_is_monotonic(candidate: Candidate) -> None:
    for path, _, n_frames, _ in _searched(candidate):
        expect((path.sum(1) == 1).all(), "one token for each frame", path.sum(1).tolist())
        tokens = path.argmax(1)
        steps = (tokens[1:] - tokens[:-1]).tolist()
        expect(all(step in (0, 1) for step in steps), f"steps of 0 or 1 over {n_frames} frames", steps)


@ALIGNER.property("a step may skip a token, or the path may end before the last token")
def every_token_is_visited(candidate: Candidate) -> None:
    for path, _, n_frames, n_tokens in _searched(candidate):
        visited = int((path.sum(0) >= 1).sum())
        expect(visited == n_tokens, f"{n_tokens} tokens in {n_frames} frames", f"{visited} visited")


@ALIGNER.property("max over the wrong neighbors, scores shifted by one frame, or the lengths of the batch for all")
def the_path_is_the_best_of_all(candidate: Candidate) -> None:
    for path, scores, n_frames, n_tokens in _searched(candidate):
        best = max(
            sum(float(scores[frame, token]) for frame, token in enumerate(one)) for one in _paths(n_frames, n_tokens)
        )
        found = float((path * scores).sum())
        expect(
            abs(found - best) < 1e-3, f"a score of {best:.4f} for {n_frames} frames, {n_tokens} tokens", f"{found:.4f}"
        )


@ALIGNER.property("more tokens than frames are not thought of")
def too_few_frames_raise_no_error(candidate: Candidate) -> None:
    path = candidate.build()(torch.randn(2, 3, 5), torch.tensor([3, 0]), torch.tensor([5, 2]))
    expect(torch.isfinite(path).all(), "a finite path", "NaN or infinity")
    expect((path.sum(2) <= 1).all(), "at most one token for each frame", path.sum(2).tolist())


def _search(engine: Engine = "auto") -> Callable[..., Tensor]:
    return functools.partial(search_path, engine=engine)


declare(
    "regulators",
    check_regulator,
    lambda target: isinstance(target, type) and issubclass(target, torch.nn.Module),
    "a module called with hidden (B, L, D) and durations (B, L)",
    parts={"LengthRegulator": (LengthRegulator, {})},
)
_PARTS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    f"search_path/{engine}": (_search, {"engine": engine}) for engine in ("numba", "tensor")
}
declare("aligners", check_aligner, callable, "a class or function that searches paths", parts=_PARTS)
