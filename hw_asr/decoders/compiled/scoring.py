"""Bonuses of one search step in compiled code: language model, lexicon, hot words. Needs numba."""

from collections.abc import Callable
from typing import Any

from hw_asr.decoders.scoring.fusion import TOKEN_UNITS, WORD_UNITS
from hw_asr.decoders.scoring.lexicon import ROOT
from hw_asr.decoders.scoring.tokens import INSIDE, SEPARATOR
from hw_asr.language_models.pair_table import FIRST_MULTIPLIER, SECOND_MULTIPLIER
from hw_base.compiled import compiled


def compiled_part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that makes no arrays, only uses those of its caller.

    Without reference counts: each use of an array would cost two atomic additions, which were 70 % of a search's time.
    """
    return compiled(function, _nrt=False, forceinline=True)


@compiled_part
def find_pair(keys, key):  # type: ignore[no-untyped-def]
    """Place of a key in a cuckoo table, -1 if it is not there."""
    size = len(keys)
    place = (((key * FIRST_MULTIPLIER >> 33) & 0x7FFFFFFF) * size) >> 31
    if keys[place] == key:
        return place
    place = (((key * SECOND_MULTIPLIER >> 33) & 0x7FFFFFFF) * size) >> 31
    return place if keys[place] == key else -1


@compiled_part
def score_unit(fusion, state, unit):  # type: ignore[no-untyped-def]
    """Natural-log probability of a unit of the language model after a state, and the next state."""
    ngram = fusion.ngram
    n_words = ngram.dense_logp.shape[1]
    total = 0.0
    for _ in range(fusion.levels):
        place = find_pair(ngram.keys, state * n_words + unit)
        if place >= 0:
            return total + ngram.logp[place], ngram.next_state[place]
        total += ngram.backoff[state]
        state = ngram.backoff_state[state]
    return total + ngram.dense_logp[state, unit], ngram.dense_next[state, unit]


@compiled_part
def _end_word(fusion, lm_state, node, strict):  # type: ignore[no-untyped-def]
    """Complete the word at a node: whether that is allowed, its bonus and probability, the next model state."""
    word = fusion.lexicon.word[node]
    if word < 0:
        if strict and not fusion.spell_unknown:
            return False, 0.0, 0.0, lm_state
        word = fusion.unknown_id
    bonus = fusion.weights.word_score - fusion.lexicon.ahead[node]
    if word == fusion.unknown_id:
        bonus += fusion.weights.unknown_score
    lm = 0.0
    if fusion.has_lm:
        lm, lm_state = score_unit(fusion, lm_state, word)
        bonus += fusion.weights.lm_weight * lm
    return True, bonus, lm, lm_state


@compiled_part
def _child(fusion, node, token):  # type: ignore[no-untyped-def]
    """The lexicon node after a token; the node of unknown words where they may be spelled, else -1."""
    lexicon = fusion.lexicon
    unknown = len(lexicon.word) - 1
    child = -1
    if node != unknown and (lexicon.branches[node] >> (token & 63)) & 1:
        if len(lexicon.child):
            child = lexicon.child[node, token]
        else:
            place = find_pair(lexicon.keys, node * lexicon.child.shape[1] + token)
            if place >= 0:
                child = lexicon.values[place]
    return unknown if child < 0 and fusion.spell_unknown else child


@compiled_part
def _word_step(fusion, token, lm_state, node):  # type: ignore[no-untyped-def]
    """Whether a token may follow, its bonus and probability, and the model state and lexicon node after it."""
    kind, bonus, lm = fusion.kinds[token], -fusion.lexicon.ahead[node], 0.0
    if kind != INSIDE:
        if node != ROOT:
            allowed, bonus, lm, lm_state = _end_word(fusion, lm_state, node, True)
            if not allowed:
                return False, 0.0, 0.0, lm_state, node
        elif kind == SEPARATOR:
            return False, 0.0, 0.0, lm_state, node
        node = ROOT
        if kind == SEPARATOR:
            return True, bonus, lm, lm_state, node
    node = _child(fusion, node, token)
    if node < 0:
        return False, 0.0, 0.0, lm_state, node
    return True, bonus + fusion.lexicon.ahead[node], lm, lm_state, node


@compiled_part
def must_continue_word(fusion, token):  # type: ignore[no-untyped-def]
    """Whether a token may only follow where the lexicon has a branch for it."""
    return fusion.units == WORD_UNITS and not fusion.spell_unknown and fusion.kinds[token] == INSIDE


@compiled_part
def step_bonus(fusion, token, lm_state, node, hot_state):  # type: ignore[no-untyped-def]
    """What a token adds to the log score of a prefix, and the states after it.

    Returns:
        Whether the token may follow, the bonus, the language model's part of it unweighted, the next language-model
        state, lexicon node and hot-word state.
    """
    allowed, bonus, lm = True, 0.0, 0.0
    if fusion.units == TOKEN_UNITS:
        bonus = fusion.weights.word_score
        if fusion.has_lm:
            lm, lm_state = score_unit(fusion, lm_state, fusion.unit_of_token[token])
            bonus += fusion.weights.lm_weight * lm
    elif fusion.units == WORD_UNITS:
        allowed, bonus, lm, lm_state, node = _word_step(fusion, token, lm_state, node)
    if len(fusion.hot.final):
        bonus += fusion.hot.bonus[hot_state, token]
        hot_state = fusion.hot.following[hot_state, token]
    return allowed, bonus, lm, lm_state, node, hot_state


@compiled_part
def ends_text(fusion, lm_state, node, hot_state, strict):  # type: ignore[no-untyped-def]
    """Whether a prefix may be a whole text, and what that adds: its last word, the sentence end, hot words.

    Returns:
        Whether it may, the bonus, the language model's part of it unweighted.
    """
    bonus, lm = 0.0, 0.0
    if fusion.units == WORD_UNITS and node != ROOT:
        allowed, bonus, lm, lm_state = _end_word(fusion, lm_state, node, strict)
        if not allowed:
            return False, 0.0, 0.0
    if fusion.has_lm and fusion.end_id >= 0:
        logp, lm_state = score_unit(fusion, lm_state, fusion.end_id)
        bonus += fusion.weights.lm_weight * logp
        lm += logp
    if len(fusion.hot.final):
        bonus += fusion.hot.final[hot_state]
    return True, bonus, lm
