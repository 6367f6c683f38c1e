"""The time-synchronous search over one utterance.

Within a frame prefixes grow token by token. Each of them may also take the blank and leave the frame; prefixes that
leave it with the same tokens, from different places, are one, and their probabilities add up.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hw_asr.decoders.scoring.fusion import Fusion
from hw_asr.models.transducer import Transducer
from hw_asr.models.transducer.predictors import State


class Limits(NamedTuple):
    """See `TransducerBeamSearchDecoder`."""

    beam_size: int
    n_best: int
    max_symbols: int
    tokens_per_frame: int
    beam_threshold: float


@dataclass(frozen=True, slots=True)
class Prefix:
    """A text so far.

    Attributes:
        tokens: ids.
        acoustic: log-probability of all its alignments.
        bonus: what language model, lexicon and hot words add, weighted.
        lm: log-probability under the language model, unweighted.
        states: of language model, lexicon and hot words.
        row: where the predictor's state is.
        best: log-probability of its best alignment.
        frames: where that one emits the tokens.
        values: with which log-probabilities.
    """

    tokens: tuple[int, ...]
    acoustic: float
    bonus: float
    lm: float
    states: np.ndarray
    row: int
    best: float
    frames: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def score(self) -> float:
        """What prefixes are ranked by."""
        return self.acoustic + self.bonus

    def joined(self, other: "Prefix") -> "Prefix":
        """This prefix with the alignments of another of the same tokens."""
        better = self if self.best >= other.best else other
        total = float(np.logaddexp(self.acoustic, other.acoustic))
        return replace(self, acoustic=total, best=better.best, frames=better.frames, values=better.values)


class _Pool:
    """The predictor's states for the prefixes of a frame, each at its row."""

    def __init__(self, model: Transducer, states: State, predicted: Tensor) -> None:
        self.model, self.states, self.predicted = model, states, predicted

    def grow(self, rows: list[int], tokens: list[int]) -> int:
        """Add the states after one more token; the row of the first."""
        device, first = self.predicted.device, len(self.predicted)
        before = tuple(part[torch.tensor(rows, device=device)] for part in self.states)
        after = self.model.predictor.advance(before, torch.tensor(tokens, device=device))
        self.states = tuple(torch.cat(pair) for pair in zip(self.states, after, strict=True))
        self.predicted = torch.cat([self.predicted, self.model.predict(after)])
        return first

    def keep(self, rows: list[int]) -> None:
        """Drop all other rows."""
        index = torch.tensor(rows, device=self.predicted.device)
        self.states, self.predicted = tuple(part[index] for part in self.states), self.predicted[index]


class Search:
    """The search of one decoder.

    Args:
        model: in evaluation mode.
        limits: of the search.
        fusion: what is added to the acoustics; None for nothing.
    """

    def __init__(self, model: Transducer, limits: Limits, fusion: Fusion | None) -> None:
        self.model, self.limits, self.fusion = model, limits, fusion

    def __call__(self, encoder_states: Tensor) -> list[Prefix]:
        """The best texts of an utterance, best first.

        Args:
            encoder_states (Tensor): (T, J), float32.
        """
        device = encoder_states.device
        state = self.model.predictor.start(1, device)
        pool = _Pool(self.model, state, self.model.predict(state))
        beam = [Prefix((), 0.0, 0.0, 0.0, self._start(), 0, 0.0, (), ())]
        for frame, row in enumerate(encoder_states):
            beam = self._frame(frame, row, beam, pool)
            pool.keep([prefix.row for prefix in beam])
            beam = [replace(prefix, row=i) for i, prefix in enumerate(beam)]
        return self._ended(beam)[: self.limits.n_best]

    def _frame(self, frame: int, encoder_state: Tensor, beam: list[Prefix], pool: _Pool) -> list[Prefix]:
        """The prefixes that leave a frame, best first."""
        left: dict[tuple[int, ...], Prefix] = {}
        for n_symbols in range(self.limits.max_symbols + 1):
            rows = torch.tensor([prefix.row for prefix in beam], device=encoder_state.device)
            log_probs = self.model.join(encoder_state, pool.predicted[rows]).double().cpu().numpy()
            for prefix, blank in zip(beam, log_probs[:, 0].tolist(), strict=True):
                one = replace(prefix, acoustic=prefix.acoustic + blank, best=prefix.best + blank)
                left[one.tokens] = one if one.tokens not in left else left[one.tokens].joined(one)
            if n_symbols == self.limits.max_symbols:
                break
            beam = self._grown(frame, beam, log_probs, self._bar(left.values()), pool)
            if not beam:
                break
        return self._best(left.values())

    def _bar(self, prefixes: Iterable[Prefix]) -> float:
        """A prefix with a lower score has no place among those that have left the frame already."""
        scores = sorted((prefix.score for prefix in prefixes), reverse=True)
        last = scores[self.limits.beam_size - 1] if len(scores) >= self.limits.beam_size else -math.inf
        return max(last, scores[0] - self.limits.beam_threshold)

    def _best(self, prefixes: Iterable[Prefix]) -> list[Prefix]:
        ranked = sorted(prefixes, key=lambda prefix: -prefix.score)[: self.limits.beam_size]
        bar = ranked[0].score - self.limits.beam_threshold
        return [prefix for prefix in ranked if prefix.score >= bar]

    def _grown(self, frame: int, beam: list[Prefix], log_probs: np.ndarray, bar: float, pool: _Pool) -> list[Prefix]:
        """The best prefixes that have one token more, emitted in this frame; none if all are below the bar."""
        width = self.limits.tokens_per_frame
        tokens = 1 + np.argpartition(-log_probs[:, 1:], width - 1, axis=1)[:, :width]
        values = np.take_along_axis(log_probs, tokens, axis=1)
        gains, states = self._bonuses(np.stack([prefix.states for prefix in beam]), tokens)
        scores = np.array([prefix.score for prefix in beam])[:, None] + values + gains[..., 0]
        order = np.argsort(-scores, axis=None, kind="stable")[: self.limits.beam_size]
        order = order[(scores.flat[order] >= bar) & (scores.flat[order] > -math.inf)]
        if not len(order):
            return []
        chosen = [(int(k) // width, int(k) % width) for k in order]
        first = pool.grow([beam[i].row for i, _ in chosen], [int(tokens[i, j]) for i, j in chosen])
        return [
            Prefix(
                (*beam[i].tokens, int(tokens[i, j])),
                beam[i].acoustic + float(values[i, j]),
                beam[i].bonus + float(gains[i, j, 0]),
                beam[i].lm + float(gains[i, j, 1]),
                states[i, j],
                first + k,
                beam[i].best + float(values[i, j]),
                (*beam[i].frames, frame),
                (*beam[i].values, float(values[i, j])),
            )
            for k, (i, j) in enumerate(chosen)
        ]

    def _start(self) -> np.ndarray:
        if self.fusion is None:
            return np.zeros(3, np.int64)
        from hw_asr.decoders.compiled.steps import start

        return start(self.fusion)

    def _bonuses(self, states: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of tokens (N, C) after prefixes: bonus and score of the language model, (N, C, 2); next states (N, C, 3)."""
        if self.fusion is None:
            return np.zeros((*tokens.shape, 2)), np.zeros((*tokens.shape, 3), np.int64)
        from hw_asr.decoders.compiled.steps import extend

        found: tuple[np.ndarray, np.ndarray] = extend(self.fusion, states, tokens)
        return found

    def _ended(self, beam: list[Prefix]) -> list[Prefix]:
        """The prefixes as whole texts, best first; within a word of the lexicon only if no text ends with one."""
        if self.fusion is None:
            return beam
        from hw_asr.decoders.compiled.steps import end

        states = np.stack([prefix.states for prefix in beam])
        gains = end(self.fusion, states, True)
        if not np.isfinite(gains[:, 0]).any():
            gains = end(self.fusion, states, False)
        texts = [
            replace(prefix, bonus=prefix.bonus + float(bonus), lm=prefix.lm + float(lm))
            for prefix, (bonus, lm) in zip(beam, gains, strict=True)
            if bonus > -math.inf
        ]
        return sorted(texts, key=lambda prefix: -prefix.score)
