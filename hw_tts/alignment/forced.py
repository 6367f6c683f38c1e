"""Alignment of a known text by a recognizer: the best path of connectionist temporal classification.

Graves et al. 2006, "Connectionist Temporal Classification"; ``torchaudio.functional.forced_align`` finds the path.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hw_base.errors import DataError, MissingPackageError
from hw_base.recognizer import Recognizer
from hw_base.texts.alignments import SILENCE

# A pause at either end of an utterance is a symbol of its own from this length on, in seconds.
_SHORTEST_SILENCE = 0.03


@dataclass(frozen=True)
class Forced:
    """An utterance's alignment.

    Attributes:
        phones: ``[[symbol, start_s, end_s], ...]``.
        score: mean natural logarithm of the probability of the path, over frames.
    """

    phones: list[list[Any]]
    score: float


def align(recognizer: Recognizer, text: str, log_probs: Tensor, duration: float, silence: str = SILENCE) -> Forced:
    """The times of a text's tokens.

    A recognizer is sure of a token in few frames and gives blanks between them: two neighbors share the blanks between
    them, half to each. Those before the first and after the last token are silence.

    Args:
        recognizer: that gave the probabilities.
        text: what is said.
        log_probs (Tensor): natural log, blank at 0, (T, V).
        duration: of the utterance, in seconds.
        silence: the symbol of pauses at the ends.

    Raises:
        DataError: the recognizer knows no character of the text, or there are fewer frames than the text needs.
        MissingPackageError: torchaudio is not installed.
    """
    try:
        from torchaudio.functional import forced_align
    except ImportError as error:
        raise MissingPackageError("the alignment by a recognizer", "torchaudio") from error
    tokens = recognizer.encode(recognizer.normalize(text))
    if not tokens:
        raise DataError(f"the recognizer's vocabulary lacks every character of the text {text[:40]!r}")
    repeats = sum(a == b for a, b in itertools.pairwise(tokens))
    if len(tokens) + repeats > len(log_probs):
        raise DataError(f"its {len(tokens)} tokens do not fit into {len(log_probs)} frames of the recognizer")
    labels, scores = forced_align(log_probs[None].float().cpu(), torch.tensor([tokens], dtype=torch.int32), blank=0)
    starts, ends = _spans(labels[0].tolist())
    assert len(starts) == len(tokens)
    # Frame k stands for the time around k * frame_seconds.
    times = [min((a + b - 1) / 2 * recognizer.frame_seconds, duration) for a, b in zip(ends, starts[1:], strict=False)]
    first = max(0.0, (starts[0] - 0.5) * recognizer.frame_seconds)
    last = min(duration, (ends[-1] - 0.5) * recognizer.frame_seconds)
    first = first if _SHORTEST_SILENCE <= first < duration else 0.0
    last = last if duration - last >= _SHORTEST_SILENCE else duration
    edges = [first, *times, last]
    symbols = [recognizer.symbol(token) for token in tokens]
    phones = [[symbol, a, b] for symbol, a, b in zip(symbols, edges[:-1], edges[1:], strict=True)]
    before = [[silence, 0.0, first]] if first else []
    after = [[silence, last, duration]] if last < duration else []
    return Forced([*before, *phones, *after], float(scores[0].mean()))


def _spans(labels: Sequence[int]) -> tuple[list[int], list[int]]:
    """First frame and the one after the last, of every token on a path with blanks (0)."""
    starts, ends = [], []
    for t, label in enumerate(labels):
        if label and (t == 0 or labels[t - 1] != label):
            starts.append(t)
        if label and (t + 1 == len(labels) or labels[t + 1] != label):
            ends.append(t + 1)
    return starts, ends
