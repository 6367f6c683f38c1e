"""Exact CTC prefix beam search over a batch as tensor operations; no value is read back before the last frame.

Probabilities are kept linear, multiplied by the bonuses and divided by the best one's after each frame, in float64: all
that is left of the log domain is one logarithm a frame. The prefixes of a beam are distinct, so an extension can only
collide with a prefix whose parent it extends; these are found by looking the hashes of parents up among those of the
beam, and their mass is added to the prefix that is already there.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hw_asr.decoders.fusion import NO_UNITS, Fusion
from hw_asr.decoders.search_options import Found, SearchOptions
from hw_asr.decoders.tensor_ngram import TensorNgram

_TINY = 1e-300
HASH_MULTIPLIER, TOKEN_MULTIPLIER, HASH_STEP = 6364136223846793005, 2654435761, 1442695040888963407


class Frames(NamedTuple):
    """Posteriors of the frames that are kept, padded with certain blanks.

    Attributes:
        log_probs: (T', B, V), float32.
        blank: probability, (T', B, 1), float64.
        best: probabilities of the C most probable tokens, (T', B, 1, C), float64.
        best_id: their ids, (T', B, 1, C), int64.
        unit: their language-model words, (T', B, 1, C), int64.
        rank: position of each token among these, C if it is none of them, (T', B, V), int16.
        after_gap: whether blanks were skipped just before the frame, (T', B, 1), bool.
        number: original number of each frame, (T', B), int64.
        n_kept: frames that are kept of each utterance, (B,), int64.
        skipped: log-probability of the skipped blanks, (B,), float64.
    """

    log_probs: Tensor
    blank: Tensor
    best: Tensor
    best_id: Tensor
    unit: Tensor
    rank: Tensor
    after_gap: Tensor
    number: Tensor
    n_kept: Tensor
    skipped: Tensor


def _prepare(log_probs: Tensor, lengths: Tensor, options: SearchOptions, unit_of_token: Tensor) -> Frames:
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
    C = min(options.tokens_per_frame, V - 1)
    best, best_id = kept[:, :, 1:].topk(C, dim=2)
    best_id += 1
    rank = torch.full(kept.shape, C, dtype=torch.int16, device=kept.device)
    rank.scatter_(2, best_id, torch.arange(C, dtype=torch.int16, device=kept.device).expand(best_id.shape))
    previous = torch.nn.functional.pad(order, (1, 0), value=-1)[:, :-1]
    return Frames(
        log_probs=kept,
        blank=kept[:, :, :1].double().exp(),
        best=best.double().exp()[:, :, None],
        best_id=best_id[:, :, None],
        unit=unit_of_token[best_id][:, :, None],
        rank=rank,
        after_gap=((order - previous > 1) & ~padded).T[:, :, None],
        number=order.T,
        n_kept=keep.sum(1),
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
        self.has_bonus = fusion.units != NO_UNITS or len(fusion.hot.final) > 0

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
        frames = _prepare(log_probs, lengths, self.options, self.unit_of_token)
        beam, path, log_scale = self.advance(frames)
        n_best = min(self.options.n_best, self.options.beam_size)
        total, bonus, lm = beam.final()
        best, slot = total.topk(n_best, dim=1)
        score = best.log() + (log_scale + frames.skipped)[:, None]
        scores = torch.stack([score, score - bonus.gather(1, slot), lm.gather(1, slot)], dim=2)
        return _collect(scores, self.trace(path, slot, frames), frames.number)

    def advance(self, frames: Frames) -> "tuple[Beam, Tensor, Tensor]":
        """Take the beams through all frames.

        Returns:
            The last beam; for each frame and slot the slot it came from and the token that was added, packed,
            (T', B, K), int64; the logarithm of all factors that were divided out, (B,), float64.
        """
        n_frames, B, _ = frames.log_probs.shape
        path = torch.zeros(n_frames, B, self.options.beam_size, dtype=torch.int64, device=self.device)
        scale = torch.ones(n_frames, B, dtype=torch.float64, device=self.device)
        beam = Beam(self, B, frames.best.shape[3])
        for t in range(n_frames):
            path[t], scale[t] = beam.step(frames, t)
        return beam, path, scale.log().sum(0)

    def trace(self, path: Tensor, slot: Tensor, frames: Frames) -> Tensor:
        """Follow slots (B, n_best) back: the token that each frame added, 0 for none, (T', B, n_best), int64."""
        added = torch.empty(len(path), *slot.shape, dtype=torch.int64, device=path.device)
        for t in range(len(path) - 1, -1, -1):
            added[t] = step = path[t].gather(1, slot)
            slot = step >> 32
        return added & 0xFFFFFFFF


class _Gain(NamedTuple):
    """What extensions add, each (B, K, C): bonuses as factor and as log, the language model's part, the next states."""

    factor: Tensor
    lm: Tensor
    bonus: Tensor
    lm_next: "Tensor | None"
    hot_next: "Tensor | None"


class Beam:
    """The K prefixes of each utterance and how they change by a frame.

    Attributes:
        ints: hash, hash of the parent, last token, whether that repeats the one before; with bonuses also the states of
            the language model and of the hot words, (4 or 6, B, K), int64.
        floats: probability, bonuses included, of the alignments that end in a blank and of those that end in the last
            token, relative to the utterance's best prefix; with bonuses also the factor that came with the last token,
            the log-probability under the language model and the sum of all bonuses, (2 or 5, B, K), float64.
    """

    def __init__(self, search: TensorSearch, B: int, C: int) -> None:
        self.search, K, device = search, search.options.beam_size, search.device
        self.shape = (B, K, C)
        fusion = search.fusion
        slot = torch.arange(K, device=device)
        zero = torch.zeros_like(slot)
        # Hashes of slots that hold no prefix: odd for prefixes, even for parents, so that none has a child.
        unused = [-2 * slot - 1, -2 * slot - 2, zero, zero]
        if search.has_bonus:
            unused += [torch.full_like(slot, fusion.start_state), torch.full_like(slot, fusion.hot.start)]
        self.unused = torch.stack(unused)[:, None]
        self.ints = self.unused.repeat(1, B, 1)
        self.floats = torch.zeros(5 if search.has_bonus else 2, B, K, dtype=torch.float64, device=device)
        self.floats[0, :, 0] = 1.0
        self.floats[2:3] = 1.0
        self.own, self.dump = K + C * slot, torch.tensor(K + K * C, device=device)
        # Probabilities of all candidates: prefixes as they are, their extensions, and a place for what is thrown away.
        self.candidates = torch.zeros(B, K + K * C + 1, dtype=torch.float64, device=device)
        self.keep_above = math.exp(-search.options.beam_threshold)

    def step(self, frames: Frames, t: int) -> tuple[Tensor, Tensor]:
        """Take in a frame.

        Returns:
            For each slot the slot that it came from and the token that was added, packed, (B, K), and the factor that
            was divided out, (B,).
        """
        B, K, C = self.shape
        hashes, parents, last, repeats = self.ints[0], self.ints[1], self.ints[2], self.ints[3]
        after_blank, after_token = self.floats[0], self.floats[1]
        total = after_blank + after_token
        if self.search.options.blank_skip < 1.0:
            after_blank = torch.where(frames.after_gap[t], total, after_blank)
            after_token = after_token.masked_fill(frames.after_gap[t], 0.0)
        of_last = frames.log_probs[t].gather(1, last).double().exp()
        rank = frames.rank[t].gather(1, last).long()
        candidates, grown = self.candidates, self.candidates[:, K:-1].view(B, K, C)
        torch.mul(total[:, :, None], frames.best[t], out=grown)
        # After a blank only, the last token can come again.
        ranked = rank != C
        candidates.scatter_(1, torch.where(ranked, self.own + rank, self.dump), after_blank * of_last)
        gain = self._gain(frames.unit[t], frames.best_id[t], self.ints) if self.search.has_bonus else None
        if gain is not None:
            grown.mul_(gain.factor)
        slot, in_beam = _find(parents, hashes)
        from_parent = torch.cat([total, after_blank], dim=1).gather(1, slot + K * repeats)
        merged = from_parent * in_beam if gain is None else from_parent * in_beam * self.floats[2]
        candidates.scatter_(1, torch.where(in_beam & ranked, slot * C + (rank + K), self.dump), 0.0)
        kept_blank, kept_token = total * frames.blank[t], (after_token + merged) * of_last
        torch.add(kept_blank, kept_token, out=candidates[:, :K])
        value, index = candidates[:, :-1].topk(K, dim=1)
        is_new = index >= K
        extension = (index - K).clamp_(min=0)
        source = torch.where(is_new, torch.div(extension, C, rounding_mode="floor"), index)
        token = frames.best_id[t, :, 0].gather(1, extension % C)
        self._select(source, kept_blank, kept_token, is_new, value)
        self._extend(is_new, token, extension, gain)
        return self._prune(value, token * is_new + (source << 32))

    def _gain(self, unit: Tensor, token: Tensor, ints: Tensor) -> _Gain:
        """What every extension by tokens (B, 1, C), which are ``unit`` to the language model, adds."""
        search, weights = self.search, self.search.fusion.weights
        lm_next, hot_next = None, None
        if search.fusion.has_lm:
            logp, lm_next = search.ngram.score(ints[4][:, :, None], unit)
            lm = logp.double()
        else:
            lm = torch.zeros(self.shape, dtype=torch.float64, device=token.device)
        score = weights.word_score if search.fusion.units != NO_UNITS else 0.0
        bonus = lm * weights.lm_weight + score
        if len(search.hot_final):
            cell = (ints[5][:, :, None], token)
            hot_next = search.hot_following[cell]
            bonus = bonus + search.hot_bonus[cell]
        return _Gain(bonus.exp(), lm, bonus, lm_next, hot_next)

    def _select(self, source: Tensor, kept_blank: Tensor, kept_token: Tensor, is_new: Tensor, value: Tensor) -> None:
        """Put into each slot the state of the slot it comes from, and the probabilities after the frame."""
        floats = torch.cat([torch.stack([kept_blank, kept_token]), self.floats[2:]])
        self.floats = floats.gather(2, source.expand(floats.shape))
        self.floats[0].masked_fill_(is_new, 0.0)
        torch.where(is_new, value, self.floats[1], out=self.floats[1])
        self.ints = self.ints.gather(2, source.expand(self.ints.shape))

    def _extend(self, is_new: Tensor, token: Tensor, extension: Tensor, gain: "_Gain | None") -> None:
        """Give the slots of new prefixes their own identity and states."""
        hashes, last, B = self.ints[0], self.ints[2], len(token)
        grown = hashes * HASH_MULTIPLIER + (token * TOKEN_MULTIPLIER + HASH_STEP)
        new = [grown, hashes, token, (token == last).long()]
        if gain is not None:
            factor, lm, bonus = (part.view(B, -1).gather(1, extension) for part in gain[:3])
            torch.where(is_new, factor, self.floats[2], out=self.floats[2])
            self.floats[3:] += torch.stack([lm, bonus]) * is_new
            for row, following in ((4, gain.lm_next), (5, gain.hot_next)):
                following = None if following is None else following.view(B, -1).gather(1, extension).long()
                new.append(self.ints[row] if following is None else following)
        self.ints = torch.where(is_new, torch.stack(new), self.ints)

    def _prune(self, value: Tensor, path: Tensor) -> tuple[Tensor, Tensor]:
        """Empty the slots that fell behind, and divide by the best."""
        best = value[:, :1]
        alive = value > best * self.keep_above
        self.ints = torch.where(alive, self.ints, self.unused)
        best = best.clamp(min=_TINY)  # where nothing is left
        self.floats[:2] *= alive / best
        return path, best[:, 0]

    def final(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each prefix as a whole text: probability, sum of all bonuses, language-model score, each (B, K)."""
        search, total = self.search, self.floats[0] + self.floats[1]
        if not search.has_bonus:
            return total, torch.zeros_like(total), torch.zeros_like(total)
        lm, before = self.floats[3], self.floats[4]
        bonus = before
        if search.fusion.has_lm and search.fusion.end_id >= 0:
            logp, _ = search.ngram.score(self.ints[4], torch.full_like(self.ints[4], search.fusion.end_id))
            lm = lm + logp
            bonus = bonus + logp.double() * search.fusion.weights.lm_weight
        if len(search.hot_final):
            bonus = bonus + search.hot_final[self.ints[5]]
        return total * (bonus - before).exp(), bonus, lm


def _find(wanted: Tensor, hashes: Tensor) -> tuple[Tensor, Tensor]:
    """For each of ``wanted`` (B, K) a slot of ``hashes`` (B, K), and whether it holds the wanted one."""
    ordered, order = hashes.sort(dim=1)
    at = torch.searchsorted(ordered, wanted).clamp_(max=hashes.shape[1] - 1)
    return order.gather(1, at), ordered.gather(1, at) == wanted


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
