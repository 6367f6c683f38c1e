"""Predictors of transducers: the tokens so far -> a state that, with the audio's, says what comes next."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from hw_base.config.schema import Depth, Size
from hw_base.registry import PREDICTORS

# What a predictor remembers of N texts: tensors whose first axis is N, so that searches can pick and mix texts.
State = tuple[Tensor, ...]
Share = Annotated[float, Field(ge=0, lt=1)]


class BasePredictor(nn.Module):
    """A network over token ids; 0, the blank, is never said and stands for the beginning of a text.

    It computes whole texts at once, in training, or token by token, in a search: both give the same.

    Attributes:
        n_outputs: D.
    """

    n_outputs: int

    def forward(self, tokens: Tensor) -> Tensor:
        """States after no token, after the first, ..., after all: (B, L), int64 -> (B, L + 1, D)."""
        raise NotImplementedError

    def start(self, n_texts: int, device: torch.device) -> State:
        """The state before ``n_texts`` texts."""
        raise NotImplementedError

    def advance(self, state: State, tokens: Tensor) -> State:
        """The state after one more token of each text, (N,), int64."""
        raise NotImplementedError

    def output(self, state: State) -> Tensor:
        """What `forward` gives at this place: (N, D)."""
        raise NotImplementedError


@PREDICTORS.register()
class StatelessPredictor(BasePredictor):
    """An embedding and a causal convolution over the last tokens (Ghodsi et al. 2020, "RNN-Transducer with Stateless
    Prediction Network"): it learns no grammar, is as good, and texts that end alike share their state.

    Args:
        n_tokens: vocabulary, the blank included.
        width: of embedding and output.
        context: tokens that it remembers.
        dropout: of the embedding.
    """

    def __init__(self, n_tokens: int, width: Size = 256, context: Size = 2, dropout: Share = 0.0) -> None:
        super().__init__()
        self.context, self.n_outputs = context, width
        self.embedding = nn.Embedding(n_tokens, width)
        self.conv = nn.Conv1d(width, width, context)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """See `BasePredictor`."""
        embedded = self.dropout(self.embedding(F.pad(tokens, (self.context, 0))))
        return self.conv(embedded.transpose(1, 2)).transpose(1, 2).relu()  # type: ignore[no-any-return]

    def start(self, n_texts: int, device: torch.device) -> State:
        """See `BasePredictor`; the state is the last tokens, (N, context), int64."""
        return (torch.zeros(n_texts, self.context, dtype=torch.int64, device=device),)

    def advance(self, state: State, tokens: Tensor) -> State:
        """See `BasePredictor`."""
        return (torch.cat([state[0][:, 1:], tokens[:, None]], dim=1),)

    def output(self, state: State) -> Tensor:
        """See `BasePredictor`."""
        weight = self.conv.weight.transpose(1, 2).flatten(1)  # for one place a product is quicker than a convolution
        return F.linear(self.embedding(state[0]).flatten(1), weight, self.conv.bias).relu()


@PREDICTORS.register()
class LSTMPredictor(BasePredictor):
    """An embedding and LSTM layers over the whole text (Graves 2012, "Sequence Transduction with Recurrent Neural
    Networks", section 2.2).

    Args:
        n_tokens: vocabulary, the blank included.
        width: of embedding and layers.
        n_layers: LSTM layers.
        dropout: of the embedding and between the layers.
    """

    def __init__(self, n_tokens: int, width: Size = 256, n_layers: Depth = 1, dropout: Share = 0.0) -> None:
        super().__init__()
        self.n_outputs = width
        self.embedding = nn.Embedding(n_tokens, width)
        between = dropout if n_layers > 1 else 0.0  # torch warns of one that has no place
        self.lstm = nn.LSTM(width, width, n_layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """See `BasePredictor`."""
        output: Tensor = self.lstm(self.dropout(self.embedding(F.pad(tokens, (1, 0)))))[0]
        return output

    def start(self, n_texts: int, device: torch.device) -> State:
        """See `BasePredictor`; the state is what the layers give and their cells, each (N, layers, D)."""
        nothing = self.embedding.weight.new_zeros(n_texts, self.lstm.num_layers, self.n_outputs)
        return self.advance((nothing, nothing), torch.zeros(n_texts, dtype=torch.int64, device=device))

    def advance(self, state: State, tokens: Tensor) -> State:
        """See `BasePredictor`."""
        before = tuple(part.transpose(0, 1).contiguous() for part in state)
        after = self.lstm(self.embedding(tokens)[:, None], before)[1]
        return tuple(part.transpose(0, 1) for part in after)

    def output(self, state: State) -> Tensor:
        """See `BasePredictor`."""
        return state[0][:, -1]
