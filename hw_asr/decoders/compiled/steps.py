"""Bonuses of many steps at once, for searches that are not compiled themselves. Needs numba."""

import numpy as np

from hw_asr.decoders.compiled.scoring import ends_text, step_bonus
from hw_asr.decoders.scoring.fusion import Fusion
from hw_asr.decoders.scoring.lexicon import ROOT
from hw_base.compiled import compiled


def start(fusion: Fusion) -> np.ndarray:
    """States of language model, lexicon and hot words before a text, (3,), int64."""
    return np.array([fusion.start_state, ROOT, fusion.hot.start])


@compiled
def extend(fusion, states, tokens):  # type: ignore[no-untyped-def]
    """What tokens (N, C) add to prefixes whose states are (N, 3), int64.

    Returns:
        The bonus, -inf where the token may not follow, and the language model's part of it, unweighted, (N, C, 2); the
        states after it, (N, C, 3), int64.
    """
    n, width = tokens.shape
    gains, after = np.empty((n, width, 2)), np.empty((n, width, 3), np.int64)
    for i in range(n):
        for j in range(width):
            allowed, bonus, lm, lm_state, node, hot_state = step_bonus(
                fusion, tokens[i, j], states[i, 0], states[i, 1], states[i, 2]
            )
            gains[i, j, 0] = bonus if allowed else -np.inf
            gains[i, j, 1] = lm
            after[i, j, 0], after[i, j, 1], after[i, j, 2] = lm_state, node, hot_state
    return gains, after


@compiled
def end(fusion, states, strict):  # type: ignore[no-untyped-def]
    """What the end of the text adds to prefixes with states (N, 3): as the gains of `extend`, (N, 2).

    With ``strict`` a text may not end within a word of the lexicon.
    """
    gains = np.empty((len(states), 2))
    for i in range(len(states)):
        allowed, bonus, lm = ends_text(fusion, states[i, 0], states[i, 1], states[i, 2], strict)
        gains[i, 0] = bonus if allowed else -np.inf
        gains[i, 1] = lm
    return gains
