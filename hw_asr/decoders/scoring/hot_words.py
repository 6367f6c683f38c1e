"""Words and phrases that are expected: a bonus for each whole one, part of it given in advance while it is spelled."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hw_asr.decoders.scoring.lexicon import say_once
from hw_asr.decoders.scoring.tokens import INSIDE, Tokens
from hw_base.errors import ConfigError
from hw_base.text import BaseTextEncoder

# Natural log; e^100 is certainty. Searches multiply probabilities, which a factor beyond e^700 would make infinite.
LARGEST = 100.0
_LARGEST_STEP = 300.0


class HotWords(NamedTuple):
    """A matching automaton (Aho and Corasick 1975) over tokens.

    Attributes:
        following: next state, (H, V), int32.
        bonus: added by the step, natural log, (H, V), float64; takes back what was given in advance when a word fails.
        final: added at the end of the text, (H,), float64.
        start: state at the beginning of a text.
    """

    following: np.ndarray
    bonus: np.ndarray
    final: np.ndarray
    start: int


def no_hot_words() -> HotWords:
    """The automaton that gives nothing; its arrays have no row."""
    return HotWords(np.zeros((0, 0), np.int32), np.zeros((0, 0)), np.zeros(0), 0)


def build_hot_words(boosts: Mapping[str, float], text_encoder: BaseTextEncoder, tokens: Tokens) -> HotWords:
    """Args:
        boosts: word or phrase -> bonus for each time it stands between word boundaries, natural log.

    Raises:
        ConfigError: a word that the vocabulary cannot spell, two that it spells alike, a bonus that is not finite, or a
            vocabulary without word boundaries.
    """
    if not tokens.has_words:
        raise ConfigError("hot_words: no token of this text encoder holds a blank, so words cannot be separated")
    lead = [tokens.separator] if tokens.separator else []
    patterns: dict[tuple[int, ...], float] = {}
    for phrase, boost in boosts.items():
        form = text_encoder.normalize(phrase).strip()
        lacking = text_encoder.unknown(phrase)
        if not form or lacking:
            raise ConfigError(f"hot_words: {phrase!r} cannot be spelled, the vocabulary lacks {lacking or 'all of it'}")
        if not math.isfinite(boost):
            raise ConfigError(f"hot_words: the bonus of {phrase!r} must be a finite number, found {boost}")
        if abs(boost) > LARGEST:
            say_once(f"hot_words: the bonus of {phrase!r}, {boost:g}, is more than certainty; {LARGEST:g} is used")
            boost = math.copysign(LARGEST, boost)
        pattern = tuple(lead + text_encoder.encode(form))
        if patterns.setdefault(pattern, boost) != boost:
            raise ConfigError(f"hot_words: {phrase!r} is spelled {form!r}, which has another bonus already")
    automaton = _automaton(patterns, len(lead), tokens)
    if np.abs(automaton.bonus).max() > _LARGEST_STEP:
        raise ConfigError(f"hot_words: phrases within phrases add up to more than {_LARGEST_STEP:g} at one token")
    return automaton


def _automaton(patterns: Mapping[tuple[int, ...], float], n_lead: int, tokens: Tokens) -> HotWords:
    children: list[dict[int, int]] = [{}]
    ahead, whole = [0.0], [0.0]  # bonus given in advance at a node; bonus of the phrases that end there
    for pattern, boost in patterns.items():
        node = 0
        for depth, token in enumerate(pattern, start=1):
            if token not in children[node]:
                children[node][token] = len(children)
                children.append({})
                ahead.append(0.0)
                whole.append(0.0)
            node = children[node][token]
            part = boost * max(0, depth - n_lead) / (len(pattern) - n_lead)
            ahead[node] = max(ahead[node], part, key=abs)
        whole[node] += boost
    following = _complete(children, whole, len(tokens.names))
    given, reached = np.array(ahead), np.array(whole)
    boundary = tokens.kinds != INSIDE
    bonus = given[following] - given[:, None] + np.where(boundary, reached[:, None], 0.0)
    start = children[0][tokens.separator] if n_lead else 0
    return HotWords(following, bonus, reached - given, start)


def _complete(children: Sequence[Mapping[int, int]], whole: list[float], n_tokens: int) -> np.ndarray:
    """Transitions of all states by all tokens, breadth first; ``whole`` gains the phrases that are suffixes."""
    following = np.zeros((len(children), n_tokens), np.int32)
    failure = [0] * len(children)
    queue = deque([0])
    while queue:
        node = queue.popleft()
        if node:
            following[node] = following[failure[node]]
            whole[node] += whole[failure[node]]
        for token, child in children[node].items():
            failure[child] = int(following[node, token]) if node else 0
            following[node, token] = child
            queue.append(child)
    return following
