"""An n-gram language model on a device, scored for any number of states and words in a fixed number of operations."""

import numpy as np
import torch
from torch import Tensor

from hw_asr.language_models.ngram import NgramArrays
from hw_asr.language_models.pair_table import FIRST_MULTIPLIER, SECOND_MULTIPLIER


class TensorNgram:
    """The arrays of :class:`NgramArrays` as tensors, what is hashed and what is dense in one.

    An arc is an n-gram: a place in these tensors. A search that keeps the arcs that its candidates would take reads the
    states after them for those alone that it chooses.

    Attributes:
        keys, backoff, backoff_state: as in :class:`NgramArrays`.
        logp: hashed ones, then the dense rows, float32.
        following: state after each arc, in the same order, and at last the state before a text, int32.
    """

    def __init__(self, ngram: NgramArrays, levels: int, start_state: int, device: torch.device) -> None:
        def place(*arrays: np.ndarray) -> Tensor:
            flat = [array.reshape(-1) for array in arrays]
            return torch.from_numpy(np.concatenate(flat) if len(flat) > 1 else flat[0]).to(device)

        self.n_words, self.levels, self.n_hashed = ngram.dense_logp.shape[1], levels, len(ngram.keys)
        self.keys, self.logp = place(ngram.keys), place(ngram.logp, ngram.dense_logp)
        self.following = place(ngram.next_state, ngram.dense_next, np.array([start_state], np.int32))
        self.backoff, self.backoff_state = place(ngram.backoff), place(ngram.backoff_state).long()
        self.start_arc = len(self.following) - 1
        self.multipliers = torch.tensor([FIRST_MULTIPLIER, SECOND_MULTIPLIER], device=device)

    def state_after(self, arc: Tensor) -> Tensor:
        """State that each arc ends in, int64."""
        return self.following.take(arc).long()

    def score(self, state: Tensor, word: Tensor) -> tuple[Tensor, Tensor]:
        """Natural-log probability, float32, and arc, int64, of words after states; their shapes broadcast."""
        cell = state * self.n_words + word
        if not self.levels:
            cell += self.n_hashed
            return self.logp.take(cell), cell
        total, (arc, found) = torch.zeros((), device=state.device), self._find(cell)
        for level in range(self.levels):
            if level:
                place, hit = self._find(cell)
                arc, found = torch.where(found, arc, place), found | hit
            total = torch.where(found, total, total + self.backoff.take(state))
            state = torch.where(found, state, self.backoff_state.take(state))
            cell = state * self.n_words + word
        arc = torch.where(found, arc, cell + self.n_hashed)
        return total + self.logp.take(arc), arc

    def _find(self, key: Tensor) -> tuple[Tensor, Tensor]:
        """Place of each key in the cuckoo table, and whether it is there: both places of all keys at once."""
        places = key * self.multipliers.view(2, *[1] * key.dim())
        places.bitwise_right_shift_(33).bitwise_and_(0x7FFFFFFF).mul_(self.n_hashed).bitwise_right_shift_(31)
        at_first, at_second = (self.keys.take(places) == key).unbind(0)
        return torch.where(at_first, places[0], places[1]), at_first | at_second
