"""Bonuses of the tensor engines: the token language model and the hot words on the device of the posteriors."""

from typing import NamedTuple

import torch
from torch import Tensor

from hw_asr.decoders.scoring.fusion import NO_UNITS, Fusion
from hw_asr.decoders.tensor.ngram import TensorNgram


class Ending(NamedTuple):
    """The prefixes that the last frame leaves, each tensor (B, K).

    Attributes:
        total: probability relative to the utterance's best, bonuses included, float64.
        lm: log-probability under the language model, float64.
        bonus: sum of all bonuses, natural log, float64.
        lm_state: state of the language model, int64.
        hot_state: state of the hot words, int64.
    """

    total: Tensor
    lm: Tensor
    bonus: Tensor
    lm_state: Tensor
    hot_state: Tensor


class TensorBonus:
    """A :class:`Fusion` without words, as tensors.

    Attributes:
        is_none: whether there is nothing to add.
    """

    def __init__(self, fusion: Fusion, device: torch.device) -> None:
        self.fusion = fusion
        self.has_hot_words = len(fusion.hot.final) > 0
        self.is_none = fusion.units == NO_UNITS and not self.has_hot_words
        self.unit_score = fusion.weights.word_score if fusion.units != NO_UNITS else 0.0
        self.ngram = TensorNgram(fusion.ngram, fusion.levels, fusion.start_state, device)
        self.unit_of_token = torch.from_numpy(fusion.unit_of_token).to(device)
        self.hot_bonus = torch.from_numpy(fusion.hot.bonus).to(device)
        self.hot_following = torch.from_numpy(fusion.hot.following).to(device).long()
        self.hot_final = torch.from_numpy(fusion.hot.final).to(device)

    def of_texts(self, ending: Ending) -> tuple[Tensor, Tensor, Tensor]:
        """Of each prefix as a whole text: probability, language-model score, sum of all bonuses, each (B, K)."""
        lm, bonus = ending.lm, ending.bonus
        if self.fusion.has_lm and self.fusion.end_id >= 0:
            logp, _ = self.ngram.score(ending.lm_state, torch.full_like(ending.lm_state, self.fusion.end_id))
            lm = lm + logp
            bonus = bonus + logp.double() * self.fusion.weights.lm_weight
        if self.has_hot_words:
            bonus = bonus + self.hot_final[ending.hot_state]
        return ending.total * (bonus - ending.bonus).exp(), lm, bonus


class BeamBonus:
    """What the prefixes of a batch have been given, and what their extensions would be; for layouts without gaps.

    Attributes:
        factor: what the last token multiplied the probability by, (B, 1, K), float64.
        sums: log-probability under the language model, sum of all bonuses, (B, 2, K), float64.
        states: arc that the language model took last, state of the hot words, (B, 2, K), int64.
    """

    def __init__(self, bonus: TensorBonus, shape: tuple[int, int, int], device: torch.device) -> None:
        self.bonus, self.shape, (B, C, K) = bonus, shape, shape
        start = torch.tensor([bonus.ngram.start_arc, bonus.fusion.hot.start], device=device)
        self.states = start[:, None].repeat(B, 1, K)
        self.added, self.sums = (torch.zeros(B, n, K, dtype=torch.float64, device=device) for n in (3, 2))
        # Of all candidates: the factor, what is added to the sums, the next states.
        self.candidates = torch.zeros(B, 3, K + C * K, dtype=torch.float64, device=device)
        self.next_states = torch.zeros(B, 2, K + C * K, dtype=torch.int64, device=device)
        self.factor, self.kept_factor, self.kept_states = (
            x[:, :n, :K] for x, n in ((self.added, 1), (self.candidates, 1), (self.next_states, 2))
        )
        self.new_factor, self.new_lm, self.new_bonus = self.candidates[:, :, K:].view(B, 3, C, K).unbind(1)
        self.new_arc, self.new_hot_state = self.next_states[:, :, K:].view(B, 2, C, K).unbind(1)

    def extend(self, unit: Tensor, token: Tensor) -> Tensor:
        """What extensions by tokens (B, C, 1), ``unit`` to the language model, multiply by, (B, C, K)."""
        tables, (arc, hot_state) = self.bonus, self.states.chunk(2, dim=1)
        self.kept_factor.copy_(self.factor)
        self.kept_states.copy_(self.states)
        self.new_bonus.fill_(tables.unit_score)
        if tables.fusion.has_lm:
            logp, following = tables.ngram.score(tables.ngram.state_after(arc), unit)
            self.new_lm.copy_(logp)
            self.new_bonus.add_(self.new_lm, alpha=tables.fusion.weights.lm_weight)
            self.new_arc.copy_(following)
        if tables.has_hot_words:
            self.new_bonus.add_(tables.hot_bonus[hot_state, token])
            self.new_hot_state.copy_(tables.hot_following[hot_state, token])
        return torch.exp(self.new_bonus, out=self.new_factor)

    def move(self, chosen: Tensor, source: Tensor) -> None:
        """Let the chosen candidates, which come from ``source``, both (B, 1, K), be the prefixes."""
        torch.gather(self.next_states, 2, chosen.expand(self.states.shape), out=self.states)
        torch.gather(self.candidates, 2, chosen.expand(self.added.shape), out=self.added)
        self.sums = self.sums.gather(2, source.expand(self.sums.shape)).add_(self.added[:, 1:])

    def ending(self, total: Tensor) -> Ending:
        """The prefixes with their probabilities (B, K)."""
        arc, hot_state = self.states.unbind(1)
        lm, bonus = self.sums.unbind(1)
        return Ending(total, lm, bonus, self.bonus.ngram.state_after(arc), hot_state)
