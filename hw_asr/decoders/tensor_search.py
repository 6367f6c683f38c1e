"""Exact CTC prefix beam search over a batch as tensor operations; no value is read back before the last frame.

Probabilities are kept linear, multiplied by the bonuses and divided by the best one's after each frame, in float64: all
that is left of the log domain is one logarithm a frame. The prefixes of a beam are distinct, so an extension can only
collide with a prefix whose parent it extends; comparing the hashes of all parents with those of all prefixes, (K, K),
finds these, and their mass is added to the prefix that is already there.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hw_asr.decoders.fusion import NO_UNITS, Fusion
from hw_asr.decoders.search_options import Found, SearchOptions
from hw_asr.decoders.tensor_ngram import TensorNgram

_HASH_MULTIPLIER, _TOKEN_MULTIPLIER, _HASH_STEP = 6364136223846793005, 2654435761, 1442695040888963407


class _Frames(NamedTuple):
    """Posteriors of the frames that are kept, padded with certain blanks.

    Attributes:
        log_probs: (T', B, V), float32.
        blank: probability, (T', B, 1), float64.
        best: probabilities of the C most probable tokens, (T', B, 1, C), float64.
        best_id: their ids, (T', B, 1, C), int64.
        after_gap: whether blanks were skipped just before the frame, (T', B, 1), bool.
        number: original number of each frame, (T', B), int64.
        skipped: log-probability of the skipped blanks, (B,), float64.
    """

    log_probs: Tensor
    blank: Tensor
    best: Tensor
    best_id: Tensor
    after_gap: Tensor
    number: Tensor
    skipped: Tensor


def _prepare(log_probs: Tensor, lengths: Tensor, options: SearchOptions) -> _Frames:
    """Move the frames that are kept to the front of each utterance and pick the tokens of each."""
    _, T, V = log_probs.shape
    valid = torch.arange(T, device=log_probs.device) < lengths[:, None]
    skip = (log_probs[:, :, 0] > math.log(options.blank_skip)) & valid
    keep = valid & ~skip
    order = torch.argsort(~keep, dim=1, stable=True)[:, : max(1, int(keep.sum(1).max()))]
    padded = ~keep.gather(1, order)
    kept = log_probs.gather(1, order[:, :, None].expand(-1, -1, V)).masked_fill(padded[:, :, None], -math.inf)
    kept[:, :, 0] = kept[:, :, 0].masked_fill(padded, 0.0)
    kept = kept.transpose(0, 1).contiguous()
    best, best_id = kept[:, :, 1:].topk(min(options.tokens_per_frame, V - 1), dim=2)
    previous = torch.nn.functional.pad(order, (1, 0), value=-1)[:, :-1]
    return _Frames(
        log_probs=kept,
        blank=kept[:, :, :1].double().exp(),
        best=best.double().exp()[:, :, None],
        best_id=(best_id + 1)[:, :, None],
        after_gap=((order - previous > 1) & ~padded).T[:, :, None],
        number=order.T,
        skipped=log_probs[:, :, 0].double().masked_fill(~skip, 0.0).sum(1),
    )


class TensorSearch:
    """The search for one decoder; keeps the language model on the device of the posteriors.

    Args:
        options: limits of the search.
        fusion: bonuses; words of a lexicon are not supported.
    """

    def __init__(self, options: SearchOptions, fusion: Fusion) -> None:
        self.options, self.fusion = options, fusion
        self.device: torch.device | None = None

    def _place(self, device: torch.device) -> None:
        """Bring everything that is looked up to the device, once."""
        if device == self.device:
            return
        fusion, self.device = self.fusion, device
        self.ngram = TensorNgram(fusion.ngram, fusion.levels, device)
        self.unit_of_token = torch.from_numpy(fusion.unit_of_token).to(device)
        self.hot_bonus = torch.from_numpy(fusion.hot.bonus).to(device)
        self.hot_following = torch.from_numpy(fusion.hot.following).to(device).long()
        self.hot_final = torch.from_numpy(fusion.hot.final).to(device)

    @torch.inference_mode()
    def __call__(self, log_probs: Tensor, lengths: Tensor) -> list[list[Found]]:
        """Search a batch of posteriors (B, T, V), natural log, float32, with lengths (B,) on the same device."""
        self._place(log_probs.device)
        frames = _prepare(log_probs, lengths, self.options)
        n_frames, B, _ = frames.log_probs.shape
        shape = (n_frames, B, self.options.beam_size)
        path = torch.zeros(shape, dtype=torch.int64, device=self.device)
        scale = torch.ones(n_frames, B, dtype=torch.float64, device=self.device)
        beam = _Beam(self, B)
        for t in range(n_frames):
            path[t], scale[t] = beam.step(frames, t)
        n_best = min(self.options.n_best, self.options.beam_size)
        total, sums = beam.final()
        best, slot = total.topk(n_best, dim=1)
        score = best.log() + (scale.log().sum(0) + frames.skipped)[:, None]
        lm, bonus = (sums[:, :, column].gather(1, slot) for column in (0, 1))
        scores = torch.stack([score, score - bonus, lm], dim=2)
        return _collect(scores, _trace(path, slot), frames.number)


class _Gain(NamedTuple):
    """What extensions add, each (B, K, C): bonuses as factor and as log, the language model's part, the next states."""

    factor: Tensor
    lm: Tensor
    bonus: Tensor
    lm_next: "Tensor | None"
    hot_next: "Tensor | None"


class _Beam:
    """The K prefixes of each utterance and how they change by a frame.

    Attributes:
        after_blank, after_token: probability, bonuses included, of the alignments that end in a blank or in the last
            token, relative to the utterance's best prefix, (B, K), float64.
        factor: bonus that came with the last token, as a factor, (B, K), float64.
        sums: log-probability under the language model, and all bonuses, (B, K, 2), float64.
        ints: hash, hash of the parent, last token, whether that repeats the one before, language-model state, hot-word
            state, (B, K, 6), int64.
    """

    def __init__(self, search: TensorSearch, B: int) -> None:
        self.search, K, device = search, search.options.beam_size, search.device
        fusion = search.fusion
        slot = torch.arange(K, device=device)
        zero = torch.zeros_like(slot)
        start = torch.full_like(slot, fusion.start_state)
        hot = torch.full_like(slot, fusion.hot.start)
        # Hashes of slots that hold no prefix: odd for prefixes, even for parents, so that none has a child.
        self.unused = torch.stack([-2 * slot - 1, -2 * slot - 2, zero, zero, start, hot], dim=1)[None]
        self.ints = self.unused.repeat(B, 1, 1)
        self.after_blank = torch.zeros(B, K, dtype=torch.float64, device=device)
        self.after_blank[:, 0] = 1.0
        self.after_token = torch.zeros_like(self.after_blank)
        self.factor = torch.ones_like(self.after_blank)
        self.sums = torch.zeros(B, K, 2, dtype=torch.float64, device=device)
        self.offset = (torch.arange(B, device=device) * K)[:, None]
        self.keep_above = math.exp(-search.options.beam_threshold)

    def step(self, frames: _Frames, t: int) -> tuple[Tensor, Tensor]:
        """Take in a frame.

        Returns:
            For each slot the slot that it came from and the token that was added, packed, (B, K), and the factor that
            was divided out, (B,).
        """
        B, K = self.after_blank.shape
        best, best_id = frames.best[t], frames.best_id[t]
        hashes, parents, last, repeats, lm_state, hot_state = (column.contiguous() for column in self.ints.unbind(2))
        total = self.after_blank + self.after_token
        if self.search.options.blank_skip < 1.0:
            self.after_blank = torch.where(frames.after_gap[t], total, self.after_blank)
            self.after_token = self.after_token.masked_fill(frames.after_gap[t], 0.0)
        is_last = best_id == last[:, :, None]
        grown = torch.where(is_last, self.after_blank[:, :, None], total[:, :, None]) * best
        gain = self._gain(best_id, lm_state, hot_state)
        if gain is not None:
            grown = grown * gain.factor
        # [j, k]: prefix j is an extension of prefix k; the mass goes there, and the extension is taken out.
        is_child = (parents[:, :, None] == hashes[:, None, :]).double()
        grown = grown * (1.0 - is_child.mT @ is_last.double())
        from_parent = is_child @ torch.stack([total, self.after_blank], dim=2)
        merged = torch.where(repeats > 0, from_parent[:, :, 1], from_parent[:, :, 0]) * self.factor
        kept_blank = total * frames.blank[t]
        kept_token = (self.after_token + merged) * frames.log_probs[t].gather(1, last).double().exp()
        value, index = torch.cat([kept_blank + kept_token, grown.reshape(B, -1)], dim=1).topk(K, dim=1)
        C = best_id.shape[2]
        is_new = index >= K
        extension = (index - K).clamp_(min=0)
        source = torch.where(is_new, torch.div(extension, C, rounding_mode="floor"), index)
        token = best_id[:, 0].gather(1, extension % C)
        self._select(source, is_new, value, kept_blank, kept_token)
        self._extend(is_new, token, extension, gain)
        return self._prune(value, torch.where(is_new, token, 0) + (source << 32))

    def _gain(self, token: Tensor, lm_state: Tensor, hot_state: Tensor) -> "_Gain | None":
        """What every extension by ``token`` (B, 1, C) adds; None if there is nothing to add in this search."""
        search, shape = self.search, (*lm_state.shape, token.shape[2])
        if search.fusion.units == NO_UNITS and not len(search.hot_final):
            return None
        weights = search.fusion.weights
        lm, lm_next, hot_next = torch.zeros(shape, dtype=torch.float64, device=token.device), None, None
        if search.fusion.has_lm:
            unit = search.unit_of_token[token].expand(shape)
            logp, lm_next = search.ngram.score(lm_state[:, :, None].expand(shape), unit)
            lm = logp.double()
        bonus = lm * weights.lm_weight + weights.word_score
        if len(search.hot_final):
            cell = (hot_state[:, :, None], token.expand(shape))
            hot_next = search.hot_following[cell]
            bonus = bonus + search.hot_bonus[cell]
        return _Gain(bonus.exp(), lm, bonus, lm_next, hot_next)

    def _select(self, source: Tensor, is_new: Tensor, value: Tensor, kept_blank: Tensor, kept_token: Tensor) -> None:
        """Put into each slot the state of the slot it comes from, and the probabilities after the frame."""
        rows = (source + self.offset).view(-1)
        floats = torch.stack([kept_blank, kept_token, self.factor], dim=2).view(-1, 3)[rows].view(*source.shape, 3)
        self.after_blank = floats[:, :, 0].masked_fill(is_new, 0.0)
        self.after_token = torch.where(is_new, value, floats[:, :, 1])
        self.factor = floats[:, :, 2]
        self.sums = self.sums.view(-1, 2)[rows].view(self.sums.shape)
        self.ints = self.ints.view(-1, self.ints.shape[2])[rows].view(self.ints.shape)

    def _extend(self, is_new: Tensor, token: Tensor, extension: Tensor, gain: "_Gain | None") -> None:
        """Give the slots of new prefixes their own identity and language-model state."""
        hashes, _, last, _, lm_state, hot_state = self.ints.unbind(2)
        B = len(token)
        if gain is not None:
            self.factor = torch.where(is_new, gain.factor.view(B, -1).gather(1, extension), self.factor)
            added = torch.stack([part.reshape(B, -1).gather(1, extension) for part in (gain.lm, gain.bonus)], dim=2)
            self.sums = self.sums + added * is_new[:, :, None]
            if gain.lm_next is not None:
                lm_state = gain.lm_next.reshape(B, -1).gather(1, extension).long()
            if gain.hot_next is not None:
                hot_state = gain.hot_next.reshape(B, -1).gather(1, extension)
        grown = hashes * _HASH_MULTIPLIER + (token * _TOKEN_MULTIPLIER + _HASH_STEP)
        new = torch.stack([grown, hashes, token, (token == last).long(), lm_state, hot_state], dim=2)
        self.ints = torch.where(is_new[:, :, None], new, self.ints)

    def _prune(self, value: Tensor, path: Tensor) -> tuple[Tensor, Tensor]:
        """Empty the slots that fell behind, and divide by the best."""
        best = value[:, :1]
        alive = value > best * self.keep_above
        self.ints = torch.where(alive[:, :, None], self.ints, self.unused)
        best = torch.where(best > 0.0, best, 1.0)
        weight = alive / best
        self.after_blank = self.after_blank * weight
        self.after_token = self.after_token * weight
        return path, best[:, 0]

    def final(self) -> tuple[Tensor, Tensor]:
        """Probability of each prefix as a whole text, (B, K), and its sums, (B, K, 2)."""
        search, lm, bonus = self.search, self.sums[:, :, 0], self.sums[:, :, 1]
        if search.fusion.has_lm and search.fusion.end_id >= 0:
            lm_state = self.ints[:, :, 4].contiguous()
            logp, _ = search.ngram.score(lm_state, torch.full_like(lm_state, search.fusion.end_id))
            lm = lm + logp
            bonus = bonus + logp.double() * search.fusion.weights.lm_weight
        if len(search.hot_final):
            bonus = bonus + search.hot_final[self.ints[:, :, 5]]
        total = (self.after_blank + self.after_token) * (bonus - self.sums[:, :, 1]).exp()
        return total, torch.stack([lm, bonus], dim=2)


def _trace(path: Tensor, slot: Tensor) -> Tensor:
    """Follow the slots back: the token that each frame added to each hypothesis, 0 for none, (T', B, n_best)."""
    added = torch.empty(len(path), *slot.shape, dtype=torch.int64, device=path.device)
    for t in range(len(path) - 1, -1, -1):
        added[t] = step = path[t].gather(1, slot)
        slot = step >> 32
    return added & 0xFFFFFFFF


def _collect(scores: Tensor, tokens: Tensor, number: Tensor) -> list[list[Found]]:
    added, numbers = tokens.cpu().numpy(), number.cpu().numpy()
    found = []
    for row, row_scores in enumerate(scores.tolist()):
        hypotheses = []
        for rank, (score, acoustic, lm) in enumerate(row_scores):
            if rank and score == -math.inf:
                break
            steps = added[:, row, rank].nonzero()[0]
            hypotheses.append(
                Found(score, acoustic, lm, added[steps, row, rank].tolist(), numbers[steps, row].tolist())
            )
        found.append(hypotheses)
    return found
