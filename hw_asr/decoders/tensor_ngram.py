"""An n-gram language model on a device, scored for any number of states and words in a fixed number of operations."""

import numpy as np
import torch
from torch import Tensor

from hw_asr.language_models.ngram import NgramArrays
from hw_asr.language_models.pair_table import FIRST_MULTIPLIER, SECOND_MULTIPLIER


class TensorNgram:
    """The arrays of :class:`NgramArrays` as tensors."""

    def __init__(self, ngram: NgramArrays, levels: int, device: torch.device) -> None:
        def place(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        self.n_words, self.levels = ngram.dense_logp.shape[1], levels
        self.dense_logp, self.dense_next = place(ngram.dense_logp).view(-1), place(ngram.dense_next).view(-1)
        self.keys, self.logp, self.next = place(ngram.keys), place(ngram.logp), place(ngram.next_state)
        self.backoff, self.backoff_state = place(ngram.backoff), place(ngram.backoff_state).long()

    def score(self, state: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
        """Natural-log probability, float32, and next state, int32, of words after states; their shapes broadcast."""
        if not self.levels:
            cell = state * self.n_words + word
            return self.dense_logp[cell], self.dense_next[cell]
        shape = torch.broadcast_shapes(state.shape, word.shape)  # type: ignore[no-untyped-call]
        state, word = state.expand(shape), word.expand(shape)
        total = torch.zeros(shape, device=state.device)
        found = torch.zeros(state.shape, dtype=torch.bool, device=state.device)
        place = torch.zeros(state.shape, dtype=torch.int64, device=state.device)
        for _ in range(self.levels):
            key = state * self.n_words + word
            first, second = self._place(key, FIRST_MULTIPLIER), self._place(key, SECOND_MULTIPLIER)
            at_first = self.keys[first] == key
            hit = at_first | (self.keys[second] == key)
            place = torch.where(hit & ~found, torch.where(at_first, first, second), place)
            found = found | hit
            total = torch.where(found, total, total + self.backoff[state])
            state = torch.where(found, state, self.backoff_state[state])
        # A state that was found may lack a dense row: read row 0 there, which exists.
        cell = torch.where(found, 0, state) * self.n_words + word
        logp = total + torch.where(found, self.logp[place], self.dense_logp[cell])
        return logp, torch.where(found, self.next[place], self.dense_next[cell])

    def _place(self, key: Tensor, multiplier: int) -> Tensor:
        return ((((key * multiplier) >> 33) & 0x7FFFFFFF) * len(self.keys)) >> 31
