"""The most probable token or blank, frame by frame, of transducers."""

import torch
from torch import Tensor

from hw_asr.decoders.base import Hypothesis
from hw_asr.decoders.transducer.base import TransducerDecoder
from hw_base.config.schema import Size
from hw_base.registry import DECODERS
from hw_base.text import BaseTextEncoder


@DECODERS.register()
class TransducerGreedyDecoder(TransducerDecoder):
    """Takes the most probable of blank and tokens until it is the blank, then the next frame.

    A batch is decoded together, each utterance at its own frame. The score is the log-probability of the one alignment
    that was taken, a lower bound of the transcript's own.

    Args:
        text_encoder: vocabulary of the model, blank at 0.
        max_symbols: tokens that a frame may emit at most.
    """

    exact = False

    def __init__(self, text_encoder: BaseTextEncoder, max_symbols: Size = 5) -> None:
        super().__init__(text_encoder)
        self.max_symbols = max_symbols

    def search(self, states: Tensor, length: Tensor) -> list[list[Hypothesis]]:
        """One hypothesis for each utterance; see `TransducerDecoder`."""
        model, n_texts = self.model, len(states)
        rows = torch.arange(n_texts, device=states.device)
        frame, symbols = torch.zeros_like(length), torch.zeros_like(length)
        score = torch.zeros(n_texts, dtype=torch.float64, device=states.device)
        state = model.predictor.start(n_texts, states.device)
        predicted = model.predict(state)
        steps: list[Tensor] = []
        active = frame < length
        while bool(active.any()):
            log_probs = model.join(states[rows, frame.clamp(max=states.shape[1] - 1)], predicted)
            token = log_probs.argmax(-1) * (symbols < self.max_symbols)
            value = log_probs[rows, token].double()
            score += torch.where(active, value, 0.0)  # the padding of a text that has ended may hold anything
            emits = (token > 0) & active
            if bool(emits.any()):
                steps.append(torch.stack([emits.double(), token.double(), frame.double(), value]))
                after = model.predictor.advance(state, token)
                state = tuple(
                    torch.where(emits.view(-1, *[1] * (new.dim() - 1)), new, old)
                    for new, old in zip(after, state, strict=True)
                )
                predicted = model.predict(state)
            frame = frame + (active & ~emits)
            symbols = (symbols + 1) * emits
            active = frame < length
        found = torch.stack(steps).cpu() if steps else torch.zeros(0, 4, n_texts)
        return [[self._hypothesis(found[:, :, i], s)] for i, s in enumerate(score.tolist())]

    def _hypothesis(self, steps: Tensor, score: float) -> Hypothesis:
        """Of an utterance; rows of ``steps`` (N, 4): whether it emitted, token, frame, log-probability."""
        emitted = steps[steps[:, 0] > 0]
        tokens, frames = (tuple(column.long().tolist()) for column in (emitted[:, 1], emitted[:, 2]))
        text, values = self.text_encoder.decode(tokens), tuple(emitted[:, 3].tolist())
        return Hypothesis(text, tokens, score, score, timesteps=frames, token_scores=values)
