"""The search of `hw_asr.decoders.tensor.search` as one Triton kernel, in which one program decodes one utterance.

A program keeps its beam in a few kilobytes of local memory and loops over the frames itself, so that a frame costs no
kernel launch. Operations, their order and their precision are those of the tensor engine, with one exception: the last
bits of a candidate's probability are replaced by its index, so that sorting needs one number.

In Triton's interpreter on a CPU it gives the hypotheses of the other engines, and it compiles for compute capability
9.0. **It has neither run nor been measured on a GPU yet**; ``benchmarks/decoding_gpu.py`` does both.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"

import math
import os

import torch
import triton
import triton.language as tl
from torch import Tensor

from hw_asr.decoders.tensor.bonus import Ending
from hw_asr.decoders.tensor.frames import HASH_MULTIPLIER, HASH_STEP, TOKEN_MULTIPLIER, Frames
from hw_asr.decoders.tensor.search import TensorSearch
from hw_asr.language_models.pair_table import FIRST_MULTIPLIER, SECOND_MULTIPLIER
from hw_base.errors import ConfigError

# Above this many candidates a frame a program would not fit into a processor's registers.
_MOST_CANDIDATES = 4096
_FIRST, _SECOND = tl.constexpr(FIRST_MULTIPLIER), tl.constexpr(SECOND_MULTIPLIER)
_HASH, _TOKEN, _STEP = tl.constexpr(HASH_MULTIPLIER), tl.constexpr(TOKEN_MULTIPLIER), tl.constexpr(HASH_STEP)
_TINY = tl.constexpr(1e-300)


@triton.jit
def _place(key, multiplier: tl.constexpr, size):
    return ((((key * multiplier) >> 33) & 0x7FFFFFFF) * size) >> 31


@triton.jit
def _lm_score(state, word, keep, model, LEVELS: tl.constexpr):
    """See `TensorNgram.score`; where ``keep`` is false, nothing is read and the score is 0."""
    dense_logp, dense_next, keys, logp, following, backoff, backoff_state, n_words, size = model
    total = tl.zeros(keep.shape, tl.float32)
    found = keep & (state < 0)
    place = tl.zeros(keep.shape, tl.int64)
    for _ in tl.static_range(LEVELS):
        key = state * n_words + word
        first, second = _place(key, _FIRST, size), _place(key, _SECOND, size)
        at_first = tl.load(keys + first, mask=keep, other=-1) == key
        hit = at_first | (tl.load(keys + second, mask=keep, other=-1) == key)
        place = tl.where(hit & (found == 0), tl.where(at_first, first, second), place)
        found = found | hit
        shorter = keep & (found == 0)
        total += tl.load(backoff + state, mask=shorter, other=0.0)
        state = tl.where(shorter, tl.load(backoff_state + state, mask=shorter, other=0), state)
    missing = keep & (found == 0)
    cell = state * n_words + word
    total += tl.load(dense_logp + cell, mask=missing, other=0.0)
    total += tl.load(logp + place, mask=found & keep, other=0.0)
    next_state = tl.load(dense_next + cell, mask=missing, other=0).to(tl.int64)
    next_state += tl.load(following + place, mask=found & keep, other=0).to(tl.int64)
    return total, next_state


@triton.jit
def _gain(
    states, word, token, keep, factors, model, hot, HAS_LM: tl.constexpr, HAS_HOT: tl.constexpr, LEVELS: tl.constexpr
):
    """What an extension adds, float64: the language model's part, all bonuses; and the next states."""
    state, hot_state = states
    lm = tl.zeros(keep.shape, tl.float64)
    if HAS_LM:
        scored, state = _lm_score(state, word, keep, model, LEVELS)
        lm = scored.to(tl.float64)
    bonus = lm * tl.load(factors) + tl.load(factors + 1)
    if HAS_HOT:
        cell = hot_state * hot[2] + token
        bonus += tl.load(hot[0] + cell, mask=keep, other=0.0)
        hot_state = tl.load(hot[1] + cell, mask=keep, other=0)
    return lm, bonus, state, hot_state


@triton.jit
def _grow(
    F, G, candidates, frame, factors, model, hot, C: tl.constexpr, K: tl.constexpr, KP: tl.constexpr,
    CP: tl.constexpr, LEVELS: tl.constexpr, HAS_BONUS: tl.constexpr, HAS_LM: tl.constexpr, HAS_HOT: tl.constexpr,
):  # fmt: skip
    """Write the probabilities of all candidates, (KP, CP): extensions, and in column C the prefixes as they are."""
    log_probs, blank, best, best_id, unit, after_gap = frame
    slots, columns = tl.arange(0, KP).to(tl.int64), tl.arange(0, CP).to(tl.int64)
    last, repeats = tl.load(G + 2 * KP + slots), tl.load(G + 3 * KP + slots)
    after_blank, after_token = tl.load(F + slots), tl.load(F + KP + slots)
    total = after_blank + after_token
    gap = tl.load(after_gap) != 0
    after_blank = tl.where(gap, total, after_blank)
    after_token = tl.where(gap, 0.0, after_token)
    is_token = columns < C
    tokens = tl.load(best_id + columns, mask=is_token, other=-1)
    chance = tl.load(best + columns, mask=is_token, other=0.0)
    # After a blank only, the last token can come again.
    again = tokens[None, :] == last[:, None]
    grown = tl.where(again, after_blank[:, None], total[:, None]) * chance[None, :]
    # A prefix whose parent is in the beam takes over what the parent's extension would bring.
    of_parent = tl.load(G + KP + slots)[:, None] == tl.load(G + slots)[None, :]
    mass = tl.where(repeats[:, None] != 0, after_blank[None, :], total[None, :])
    merged = tl.sum(tl.where(of_parent, mass, 0.0), 1)
    if HAS_BONUS:
        keep = (slots[:, None] < K) & is_token[None, :]
        zero = tl.zeros((KP, CP), tl.int64)
        states = (tl.load(G + 4 * KP + slots)[:, None] + zero, tl.load(G + 5 * KP + slots)[:, None] + zero)
        words = tl.load(unit + columns, mask=is_token, other=0)[None, :] + zero
        gain = _gain(states, words, tokens[None, :] + zero, keep, factors, model, hot, HAS_LM, HAS_HOT, LEVELS)
        grown *= tl.exp(gain[1])
        merged *= tl.load(F + 2 * KP + slots)
    of_last = tl.exp(tl.load(log_probs + last).to(tl.float64))
    kept_blank, kept_token = total * tl.load(blank), (after_token + merged) * of_last
    stay = (kept_blank + kept_token)[:, None]
    tl.store(candidates + slots[:, None] * CP + columns[None, :], tl.where(columns[None, :] == C, stay, grown))
    tl.debug_barrier()
    taken = (tl.sum(of_parent.to(tl.int64), 1) != 0) & (tl.sum(again.to(tl.int64), 1) != 0)
    slot = tl.sum(tl.where(of_parent, slots[None, :], 0), 1)
    rank = tl.sum(tl.where(again, columns[None, :], 0), 1)
    tl.store(candidates + slot * CP + rank, tl.zeros((KP,), tl.float64), mask=taken)
    tl.store(F + slots, kept_blank)
    tl.store(F + KP + slots, kept_token)
    tl.debug_barrier()


@triton.jit
def _choose(candidates, K: tl.constexpr, KP: tl.constexpr, CP: tl.constexpr):
    """Numbers and probabilities of the K best candidates, best first; beyond K a probability of 0."""
    slots, cell = tl.arange(0, KP), tl.arange(0, KP * CP).to(tl.int64)
    # Bits of non-negative numbers are in the order of the numbers; the lower number wins a tie.
    key = (tl.load(candidates + cell).to(tl.int64, bitcast=True) & -(KP * CP)) | (KP * CP - 1 - cell)
    chosen = tl.zeros((KP,), tl.int64)
    for i in range(K):
        most = tl.max(key, 0)
        chosen = tl.where(slots == i, KP * CP - 1 - (most & (KP * CP - 1)), chosen)
        key = tl.where(key == most, -1, key)
    return chosen, tl.where(slots < K, tl.load(candidates + chosen), 0.0)


@triton.jit
def _replace(
    F, G, path, chosen, value, frame, factors, model, hot, C: tl.constexpr, KP: tl.constexpr, CP: tl.constexpr,
    LEVELS: tl.constexpr, HAS_BONUS: tl.constexpr, HAS_LM: tl.constexpr, HAS_HOT: tl.constexpr,
):  # fmt: skip
    """Put the chosen candidates into the slots; the factor that their probabilities were divided by."""
    slots = tl.arange(0, KP).to(tl.int64)
    source, column = chosen // CP, chosen % CP
    is_new = column != C
    most = tl.max(value, 0)
    alive = value > most * tl.load(factors + 2)
    most = tl.maximum(most, _TINY)
    token = tl.load(frame[3] + column, mask=is_new, other=0)
    old, before = tl.load(G + source), tl.load(G + 2 * KP + source)
    identity = tl.where(is_new, old * _HASH + (token * _TOKEN + _STEP), old)
    parent = tl.where(is_new, old, tl.load(G + KP + source))
    last = tl.where(is_new, token, before)
    repeats = tl.where(is_new, (token == before).to(tl.int64), tl.load(G + 3 * KP + source))
    after_blank = tl.where(is_new, 0.0, tl.load(F + source))
    after_token = tl.where(is_new, value, tl.load(F + KP + source))
    if HAS_BONUS:
        word = tl.load(frame[4] + column, mask=is_new, other=0)
        states = (tl.load(G + 4 * KP + source), tl.load(G + 5 * KP + source))
        lm, bonus, state, hot_state = _gain(states, word, token, is_new, factors, model, hot, HAS_LM, HAS_HOT, LEVELS)
        factor = tl.where(is_new, tl.exp(bonus), tl.load(F + 2 * KP + source))
        lm = tl.load(F + 3 * KP + source) + tl.where(is_new, lm, 0.0)
        bonus = tl.load(F + 4 * KP + source) + tl.where(is_new, bonus, 0.0)
        state, hot_state = tl.where(is_new, state, states[0]), tl.where(is_new, hot_state, states[1])
        tl.debug_barrier()
        tl.store(F + 2 * KP + slots, factor)
        tl.store(F + 3 * KP + slots, lm)
        tl.store(F + 4 * KP + slots, bonus)
        tl.store(G + 4 * KP + slots, tl.where(alive, state, 0))
        tl.store(G + 5 * KP + slots, tl.where(alive, hot_state, 0))
    else:
        tl.debug_barrier()
    tl.store(F + slots, tl.where(alive, after_blank, 0.0) / most)
    tl.store(F + KP + slots, tl.where(alive, after_token, 0.0) / most)
    tl.store(G + slots, tl.where(alive, identity, -2 * slots - 1))
    tl.store(G + KP + slots, tl.where(alive, parent, -2 * slots - 2))
    tl.store(G + 2 * KP + slots, tl.where(alive, last, 0))
    tl.store(G + 3 * KP + slots, tl.where(alive, repeats, 0))
    tl.store(path + slots, token + (source << 32))
    tl.debug_barrier()
    return most


@triton.jit
def _search(
    log_probs, blank, best, best_id, unit, after_gap, n_frames, floats, ints, candidates, path, log_scale, factors,
    dense_logp, dense_next, keys, logp, following, backoff, backoff_state, n_words, size, hot_bonus, hot_following,
    B, V, C: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, CP: tl.constexpr, LEVELS: tl.constexpr,
    HAS_BONUS: tl.constexpr, HAS_LM: tl.constexpr, HAS_HOT: tl.constexpr,
):  # fmt: skip
    """One utterance from its first frame to its last."""
    b = tl.program_id(0).to(tl.int64)
    F, G, candidates = floats + b * 5 * KP, ints + b * 6 * KP, candidates + b * KP * CP
    model = (dense_logp, dense_next, keys, logp, following, backoff, backoff_state, n_words, size)
    hot = (hot_bonus, hot_following, V)
    scale = tl.zeros((), tl.float64)
    count = tl.load(n_frames + b)
    t = count * 0
    while t < count:
        row = t * B + b
        at = row * C
        frame = (log_probs + row * V, blank + row, best + at, best_id + at, unit + at, after_gap + row)
        _grow(F, G, candidates, frame, factors, model, hot, C, K, KP, CP, LEVELS, HAS_BONUS, HAS_LM, HAS_HOT)
        chosen, value = _choose(candidates, K, KP, CP)
        most = _replace(
            F, G, path + row * KP, chosen, value, frame, factors, model, hot, C, KP, CP, LEVELS,
            HAS_BONUS, HAS_LM, HAS_HOT,
        )  # fmt: skip
        scale += tl.log(most)
        t += 1
    tl.store(log_scale + b, scale)


@triton.jit
def _trace(path, slot, n_frames, added, B, N: tl.constexpr, NP: tl.constexpr, KP: tl.constexpr):
    """Which token each frame added to the hypotheses of one utterance."""
    b, ranks = tl.program_id(0).to(tl.int64), tl.arange(0, NP)
    at = tl.load(slot + b * N + ranks, mask=ranks < N, other=0)
    t = tl.load(n_frames + b) - 1
    while t >= 0:
        row = t * B + b
        step = tl.load(path + row * KP + at)
        tl.store(added + row * N + ranks, step & 0xFFFFFFFF, mask=ranks < N)
        at = step >> 32
        t -= 1


class FusedSearch(TensorSearch):
    """`TensorSearch` with its loop over the frames in one kernel.

    Raises:
        ConfigError: posteriors that are not on a GPU, or more candidates than a program can hold.
    """

    def advance(self, frames: Frames) -> tuple[Ending, Tensor, Tensor]:
        n_frames, B, C, _ = frames.best.shape
        K, V, bonus, ngram = self.options.beam_size, frames.log_probs.shape[3], self.bonus, self.bonus.ngram
        KP, CP = self._padded(K, C, frames.log_probs.device)
        floats, ints = self._start(B, KP, frames.log_probs.device)
        path = torch.empty(n_frames, B, KP, dtype=torch.int64, device=ints.device)
        log_scale = torch.zeros(B, dtype=torch.float64, device=ints.device)
        candidates = torch.empty(B, KP * CP, dtype=torch.float64, device=ints.device)
        weights = [self.fusion.weights.lm_weight, bonus.unit_score, math.exp(-self.options.beam_threshold)]
        factors = torch.tensor(weights, dtype=torch.float64, device=ints.device)
        best_id = frames.token[:, :, 0, :C]
        rows = (frames.log_probs, frames.blank, frames.best, best_id, frames.unit, frames.after_gap.to(torch.int8))
        dense = ngram.n_hashed
        model = (
            ngram.logp[dense:],
            ngram.following[dense:],
            ngram.keys,
            ngram.logp,
            ngram.following,
            ngram.backoff,
            ngram.backoff_state,
        )
        _search[(B,)](
            *(x.contiguous() for x in rows), frames.n_kept, floats, ints, candidates, path, log_scale, factors,
            *model, ngram.n_words, len(ngram.keys), bonus.hot_bonus, bonus.hot_following, B, V, C=C, K=K, KP=KP, CP=CP,
            LEVELS=ngram.levels, HAS_BONUS=not bonus.is_none, HAS_LM=self.fusion.has_lm, HAS_HOT=bonus.has_hot_words,
        )  # fmt: skip
        ending = Ending(floats[:, 0] + floats[:, 1], floats[:, 3], floats[:, 4], ints[:, 4], ints[:, 5])
        return Ending(*(part[:, :K] for part in ending)), path, log_scale

    def _padded(self, K: int, C: int, device: torch.device) -> tuple[int, int]:
        """Powers of two that hold the slots, and the candidates of one."""
        if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
            raise ConfigError("engine 'fused' runs on a GPU: decode there, or take engine 'auto'")
        KP, CP = triton.next_power_of_2(max(2, K)), triton.next_power_of_2(C + 1)
        if KP * CP > _MOST_CANDIDATES:
            raise ConfigError(
                f"engine 'fused': beam_size {K} with {C} tokens_per_frame are more than {_MOST_CANDIDATES} candidates; "
                "lower one of them, or take engine 'tensor'"
            )
        return KP, CP

    def _start(self, B: int, KP: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The beams before the first frame, the empty text in slot 0.

        Returns:
            Probability that ends in a blank, and in the last token; factor that came with it, language-model score,
            sum of bonuses, (B, 5, KP), float64. Hash, hash of the parent, last token, whether that repeats the one
            before, states of the language model and of the hot words, (B, 6, KP), int64. Slots that hold no prefix have
            hashes that are odd, and even for parents, so that none has a child.
        """
        slot = torch.arange(KP, device=device)
        floats = torch.zeros(B, 5, KP, dtype=torch.float64, device=device)
        floats[:, 0, 0] = 1.0
        floats[:, 2] = 1.0
        ints = torch.zeros(B, 6, KP, dtype=torch.int64, device=device)
        ints[:, 0], ints[:, 1] = -2 * slot - 1, -2 * slot - 2
        ints[:, 4], ints[:, 5] = self.fusion.start_state, self.fusion.hot.start
        return floats, ints

    def trace(self, path: Tensor, slot: Tensor, frames: Frames) -> Tensor:
        n_frames, B, KP = path.shape
        N = slot.shape[1]
        added = torch.zeros(n_frames, B, N, dtype=torch.int64, device=path.device)
        _trace[(B,)](path, slot.contiguous(), frames.n_kept, added, B, N=N, NP=triton.next_power_of_2(N), KP=KP)
        return added
