"""Exact CTC prefix beam search as a compiled loop over one utterance; it releases the GIL.

The same search as :mod:`hw_asr.decoders.tensor.search`, probabilities linear and relative to the best prefix, with what
only a loop can do: an extension that cannot enter the beam is left before its bonus is looked up.

This module needs numba and is imported by ``BeamSearch`` when it is used.
"""

import math
from typing import NamedTuple

import numpy as np

from hw_asr.decoders.compiled.scoring import compiled_part, ends_text, must_continue_word, step_bonus
from hw_asr.decoders.scoring.fusion import Fusion
from hw_asr.decoders.scoring.options import Found, SearchOptions
from hw_asr.decoders.scoring.tokens import INSIDE
from hw_base.compiled import compiled

_HASH_MULTIPLIER, _TOKEN_MULTIPLIER, _HASH_STEP = 6364136223846793005, 2654435761, 1442695040888963407
_NO_PARENT, _ROOT_HASH = -2, -1
# Columns of _Beam.ints and of _Candidates.origin.
_NODE, _LAST, _REPEATS, _LM_STATE, _LEXICON_NODE, _HOT_STATE = range(6)
_SOURCE, _TOKEN, _LM_NEXT, _LEXICON_NEXT, _HOT_NEXT = range(5)
_STAYS = -1


class _Beam(NamedTuple):
    """The prefixes after a frame.

    Attributes:
        weights: probability of the alignments that end in a blank and of those that end in the last token, relative to
            the best prefix; factor that came with the last token; sums of the language model's score and of all
            bonuses, (K, 5).
        hashes: of the prefix and of its parent, (K, 2).
        ints: node in the tree of all prefixes, last token, whether that repeats the one before, states of the language
            model, the lexicon and the hot words, (K, 6).
    """

    weights: np.ndarray
    hashes: np.ndarray
    ints: np.ndarray


class _Candidates(NamedTuple):
    """Prefixes that may enter the next beam.

    Attributes:
        value: probability, (N,).
        gains: the last three columns of ``_Beam.weights``, (N, 3).
        origin: prefix it comes from, token (``_STAYS`` for none), the three states after it, (N, 5).
        scratch: (N,).
    """

    value: np.ndarray
    gains: np.ndarray
    origin: np.ndarray
    scratch: np.ndarray


class _Frame(NamedTuple):
    """What is worked out anew for each frame; entries of older frames carry an older number.

    Attributes:
        best_id, best: the most probable tokens and their probabilities, (C,).
        rank, seen: position of a token among these, and the frame for which that holds, (V,).
        taken: frame in which the extension of a prefix by one of these is in the beam already, (K, C).
        stay: probabilities of the prefixes that take no new token, as in ``_Beam.weights``, (K, 2).
        slot_hash, slot_prefix, slot_frame: hash table of the beam, (more than 2K,).
    """

    best_id: np.ndarray
    best: np.ndarray
    rank: np.ndarray
    seen: np.ndarray
    taken: np.ndarray
    stay: np.ndarray
    slot_hash: np.ndarray
    slot_prefix: np.ndarray
    slot_frame: np.ndarray


def search(log_probs: np.ndarray, options: SearchOptions, fusion: Fusion, bounds: tuple[float, float]) -> list[Found]:
    """Search one utterance.

    Args:
        log_probs: natural log, (T, V), float32, C-contiguous.
        bounds: the largest bonus that a token within a word and that any token can bring, natural log.
    """
    scores, lengths, tokens, frames = _search(log_probs, options, fusion, bounds)
    return [
        Found(score, acoustic, lm, row[:n].tolist(), frame[:n].tolist())
        for (score, acoustic, lm), n, row, frame in zip(scores.tolist(), lengths.tolist(), tokens, frames, strict=True)
    ]


@compiled
def _search(log_probs, options, fusion, bounds):  # type: ignore[no-untyped-def]
    """The whole search; returns scores (n, 3) as in ``Found``, lengths (n,), tokens and frames (n, L), best first."""
    T, V = log_probs.shape
    K, C = options.beam_size, min(options.tokens_per_frame, V - 1)
    beam, following = _new_beam(K), _new_beam(K)
    candidates, frame = _new_candidates(3 * K), _new_frame(K, C, V)
    tree = np.empty((T * K + 1, 3), np.int32)  # parent, token and frame of every prefix that was ever in the beam
    tree[0] = 0
    beam.weights[0, 0], beam.weights[0, 2] = 1.0, 1.0
    beam.hashes[0, 0], beam.hashes[0, 1] = _ROOT_HASH, _NO_PARENT
    beam.ints[0, _LM_STATE], beam.ints[0, _HOT_STATE] = fusion.start_state, fusion.hot.start
    n, n_nodes, gap = 1, 1, False
    log_scale, log_skip = 0.0, math.log(options.blank_skip)
    keep_above, growth = math.exp(-options.beam_threshold), (math.exp(bounds[0]), math.exp(bounds[1]))
    for t in range(T):
        row = log_probs[t]
        if row[0] > log_skip:
            log_scale += row[0]
            gap = True
            continue
        if gap:
            beam.weights[:n, 0] += beam.weights[:n, 1]
            beam.weights[:n, 1] = 0.0
            gap = False
        _top_tokens(row, t, frame)
        _stay(row, t, n, beam, frame)
        m, top = _grow(t, n, beam, frame, candidates, fusion, keep_above, growth)
        if top == 0.0:
            n = 0
            break
        log_scale += math.log(top)
        n, n_nodes = _next_beam(t, m, top, keep_above, candidates, frame.stay, tree, n_nodes, beam, following)
        beam, following = following, beam
    return _best_texts(options.n_best, n, beam.weights, beam.ints, log_scale, fusion, tree)


@compiled
def _new_beam(K):  # type: ignore[no-untyped-def]
    return _Beam(np.zeros((K, 5)), np.zeros((K, 2), np.int64), np.zeros((K, 6), np.int32))


@compiled
def _new_candidates(N):  # type: ignore[no-untyped-def]
    return _Candidates(np.empty(N), np.empty((N, 3)), np.empty((N, 5), np.int32), np.empty(N))


@compiled
def _new_frame(K, C, V):  # type: ignore[no-untyped-def]
    size = 4
    while size < 4 * K:
        size *= 2
    return _Frame(
        best_id=np.empty(C, np.int64),
        best=np.empty(C),
        rank=np.zeros(V, np.int32),
        seen=np.full(V, -1, np.int32),
        taken=np.full((K, C), -1, np.int32),
        stay=np.empty((K, 2)),
        slot_hash=np.zeros(size, np.int64),
        slot_prefix=np.zeros(size, np.int32),
        slot_frame=np.full(size, -1, np.int32),
    )


@compiled_part
def _top_tokens(row, t, frame):  # type: ignore[no-untyped-def]
    """The C most probable tokens but the blank, best first."""
    best_id, best = frame.best_id, frame.best
    C, found = len(best), 0
    for v in range(1, len(row)):
        x = row[v]
        if found == C and x <= best[C - 1]:
            continue
        at = min(found, C - 1)
        while at > 0 and best[at - 1] < x:
            best[at], best_id[at] = best[at - 1], best_id[at - 1]
            at -= 1
        best[at], best_id[at] = x, v
        found = min(found + 1, C)
    for q in range(C):
        best[q] = math.exp(best[q])
        frame.rank[best_id[q]], frame.seen[best_id[q]] = q, t


@compiled_part
def _stay(row, t, n, beam, frame):  # type: ignore[no-untyped-def]
    """Probabilities of the prefixes that take no new token, what their parents in the beam add included.

    Marks the extensions of those parents as taken.
    """
    w, h, s = beam.weights, beam.hashes, beam.ints
    mask = len(frame.slot_hash) - 1
    for k in range(n):
        i = (h[k, 0] ^ (h[k, 0] >> 32)) & mask
        while frame.slot_frame[i] == t:
            i = (i + 1) & mask
        frame.slot_hash[i], frame.slot_prefix[i], frame.slot_frame[i] = h[k, 0], k, t
    blank = math.exp(np.float64(row[0]))
    for j in range(n):
        mass, last = w[j, 1], s[j, _LAST]
        i = (h[j, 1] ^ (h[j, 1] >> 32)) & mask
        while frame.slot_frame[i] == t:
            if frame.slot_hash[i] == h[j, 1]:
                k = frame.slot_prefix[i]
                mass += (w[k, 0] if s[j, _REPEATS] else w[k, 0] + w[k, 1]) * w[j, 2]
                if frame.seen[last] == t:
                    frame.taken[k, frame.rank[last]] = t
                break
            i = (i + 1) & mask
        frame.stay[j, 0] = (w[j, 0] + w[j, 1]) * blank
        frame.stay[j, 1] = mass * math.exp(np.float64(row[last])) if mass > 0.0 else 0.0


@compiled_part
def _grow(t, n, beam, frame, candidates, fusion, keep_above, growth):  # type: ignore[no-untyped-def]
    """Gather the K best prefixes; returns how many there are and the probability of the best."""
    K, C = frame.taken.shape
    m, top, lowest, longest = 0, 0.0, np.inf, 0.0
    for k in range(n):
        candidates.value[m] = frame.stay[k, 0] + frame.stay[k, 1]
        candidates.origin[m, _SOURCE], candidates.origin[m, _TOKEN] = k, _STAYS
        for column in range(3):
            candidates.gains[m, column] = beam.weights[k, 2 + column]
        top, lowest = max(top, candidates.value[m]), min(lowest, candidates.value[m])
        longest = max(longest, beam.weights[k, 0] + beam.weights[k, 1])
        m += 1
    lowest = max(top * keep_above, lowest if n == K else 0.0)
    for q in range(C):
        if longest * frame.best[q] * growth[1] <= lowest:
            break
        if m + n > len(candidates.value):
            lowest = max(lowest, _keep_best(K, m, candidates))
            m = K
        m, top, lowest = _extend(t, q, n, m, top, lowest, beam, frame, candidates, fusion, keep_above, growth)
    if m > K:
        _keep_best(K, m, candidates)
        m = K
    return m, top


@compiled_part
def _extend(t, q, n, m, top, lowest, beam, frame, candidates, fusion, keep_above, growth):  # type: ignore[no-untyped-def]
    """Add the extensions by one token that are better than ``lowest``."""
    token, y, w, s, taken = frame.best_id[q], frame.best[q], beam.weights, beam.ints, frame.taken
    in_word, bit, branches = must_continue_word(fusion, token), token & 63, fusion.lexicon.branches
    most = growth[0] if fusion.kinds[token] == INSIDE else growth[1]
    for k in range(n):
        mass = (w[k, 0] if token == s[k, _LAST] else w[k, 0] + w[k, 1]) * y
        if mass * most <= lowest or taken[k, q] == t:
            continue
        if in_word and not (branches[s[k, _LEXICON_NODE]] >> bit) & 1:
            continue
        allowed, bonus, lm, lm_next, lexicon_next, hot_next = step_bonus(
            fusion, token, s[k, _LM_STATE], s[k, _LEXICON_NODE], s[k, _HOT_STATE]
        )
        gain = math.exp(bonus) if bonus != 0.0 else 1.0
        mass *= gain
        if not allowed or mass <= lowest:
            continue
        candidates.value[m] = mass
        candidates.gains[m, 0] = gain
        candidates.gains[m, 1] = w[k, 3] + lm
        candidates.gains[m, 2] = w[k, 4] + bonus
        candidates.origin[m, _SOURCE], candidates.origin[m, _TOKEN] = k, token
        candidates.origin[m, _LM_NEXT] = lm_next
        candidates.origin[m, _LEXICON_NEXT], candidates.origin[m, _HOT_NEXT] = lexicon_next, hot_next
        m += 1
        top = max(top, mass)
        lowest = max(lowest, top * keep_above)
    return m, top, lowest


@compiled_part
def _copy_row(target, i, source, k):  # type: ignore[no-untyped-def]
    # Not by slices: for a few columns their bookkeeping costs more than the copy.
    for column in range(source.shape[1]):
        target[i, column] = source[k, column]


@compiled_part
def _kth_largest(values, k):  # type: ignore[no-untyped-def]
    """Hoare's selection, in place."""
    low, high, wanted = 0, len(values) - 1, k - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            break
    return values[wanted]


@compiled_part
def _keep_best(K, m, candidates):  # type: ignore[no-untyped-def]
    """Move the K best of m candidates to the front; returns the smallest probability among them."""
    value = candidates.value
    for i in range(m):
        candidates.scratch[i] = value[i]
    smallest = _kth_largest(candidates.scratch[:m], K)
    ties, kept = K, 0
    for i in range(m):
        if value[i] > smallest:
            ties -= 1
    for i in range(m):
        if value[i] < smallest:
            continue
        if value[i] == smallest:
            if ties == 0:
                continue
            ties -= 1
        if i != kept:
            value[kept] = value[i]
            _copy_row(candidates.gains, kept, candidates.gains, i)
            _copy_row(candidates.origin, kept, candidates.origin, i)
        kept += 1
    return smallest


@compiled_part
def _next_beam(t, m, top, keep_above, candidates, stay, tree, n_nodes, beam, following):  # type: ignore[no-untyped-def]
    """Turn candidates into prefixes; returns how many there are, and the new size of the tree."""
    n, w, h, s = 0, following.weights, following.hashes, following.ints
    for i in range(m):
        if candidates.value[i] <= top * keep_above:
            continue
        k, token = candidates.origin[i, _SOURCE], candidates.origin[i, _TOKEN]
        if token == _STAYS:
            w[n, 0], w[n, 1] = stay[k, 0] / top, stay[k, 1] / top
            _copy_row(h, n, beam.hashes, k)
            _copy_row(s, n, beam.ints, k)
        else:
            w[n, 0], w[n, 1] = 0.0, candidates.value[i] / top
            h[n, 0] = beam.hashes[k, 0] * _HASH_MULTIPLIER + (token * _TOKEN_MULTIPLIER + _HASH_STEP)
            h[n, 1] = beam.hashes[k, 0]
            tree[n_nodes, 0], tree[n_nodes, 1], tree[n_nodes, 2] = beam.ints[k, _NODE], token, t
            s[n, _NODE], s[n, _LAST], s[n, _REPEATS] = n_nodes, token, token == beam.ints[k, _LAST]
            s[n, _LM_STATE] = candidates.origin[i, _LM_NEXT]
            s[n, _LEXICON_NODE], s[n, _HOT_STATE] = candidates.origin[i, _LEXICON_NEXT], candidates.origin[i, _HOT_NEXT]
            n_nodes += 1
        for column in range(3):
            w[n, 2 + column] = candidates.gains[i, column]
        n += 1
    return n, n_nodes


@compiled
def _best_texts(n_best, n, w, s, log_scale, fusion, tree):  # type: ignore[no-untyped-def]
    """Score the prefixes as whole texts and follow the best ones back."""
    scores = np.zeros((max(n, 1), 3))
    score = scores[:, 0]
    score[:] = -np.inf
    for strict in (True, False):  # where no text ends with a whole word, one that ends within a word has to do
        for k in range(n):
            allowed, bonus, lm = ends_text(fusion, s[k, _LM_STATE], s[k, _LEXICON_NODE], s[k, _HOT_STATE], strict)
            if allowed:
                score[k] = math.log(w[k, 0] + w[k, 1]) + log_scale + bonus
                scores[k, 1], scores[k, 2] = score[k] - bonus - w[k, 4], lm + w[k, 3]
        if score.max() > -np.inf:
            break
    ranked = np.argsort(-score)[: min(n_best, max(1, (score > -np.inf).sum()))]
    lengths = np.zeros(len(ranked), np.int64)
    for rank, k in enumerate(ranked):
        node = s[k, _NODE] if n else 0
        while node > 0:
            lengths[rank] += 1
            node = tree[node, 0]
    tokens = np.zeros((len(ranked), lengths.max()), np.int32)
    frames = np.zeros_like(tokens)
    for rank, k in enumerate(ranked):
        node = s[k, _NODE] if n else 0
        for at in range(lengths[rank] - 1, -1, -1):
            tokens[rank, at], frames[rank, at] = tree[node, 1], tree[node, 2]
            node = tree[node, 0]
    return scores[ranked], lengths, tokens, frames
