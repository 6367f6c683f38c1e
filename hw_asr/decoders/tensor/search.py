"""Exact CTC prefix beam search over a batch as tensor operations; no value is read back before the last frame.

Probabilities are kept linear, multiplied by the bonuses and divided by the best one's after each frame, in float64: all
that is left of the log domain is one logarithm a frame. The prefixes of a beam are distinct, so an extension can only
collide with a prefix whose parent it extends; these are found by looking the hashes of parents up among those of the
beam, and their mass is added to the prefix that is already there.
"""

import math

import torch
from torch import Tensor

from hw_asr.decoders.scoring.fusion import Fusion
from hw_asr.decoders.scoring.options import Found, SearchOptions
from hw_asr.decoders.tensor.beam import Beam
from hw_asr.decoders.tensor.bonus import Ending, TensorBonus
from hw_asr.decoders.tensor.frames import Frames, prepare_frames
from hw_asr.decoders.tensor.layout import lay_out


class TensorSearch:
    """The search for one decoder; keeps the language model on the device of the posteriors.

    Args:
        options: limits of the search.
        fusion: bonuses; words of a lexicon are not supported.
    """

    def __init__(self, options: SearchOptions, fusion: Fusion) -> None:
        self.options, self.fusion = options, fusion
        self.device: torch.device | None = None

    @torch.inference_mode()
    def __call__(self, log_probs: Tensor, lengths: Tensor) -> list[list[Found]]:
        """Search a batch of posteriors (B, T, V), natural log, float32, with lengths (B,) on the same device."""
        if log_probs.device != self.device:
            self.device = log_probs.device
            self.bonus = TensorBonus(self.fusion, self.device)
            C = min(self.options.tokens_per_frame, log_probs.shape[2] - 1)
            self.layout = lay_out(self.options.beam_size, C, self.bonus.is_none, self.device)
        frames = prepare_frames(log_probs, lengths, self.options, self.bonus.unit_of_token)
        ending, path, log_scale = self.advance(frames)
        total, lm, bonus = self.bonus.of_texts(ending)
        best, slot = total.topk(min(self.options.n_best, self.options.beam_size), dim=1)
        score = best.log() + (log_scale + frames.skipped)[:, None]
        scores = torch.stack([score, score - bonus.gather(1, slot), lm.gather(1, slot)], dim=2)
        return _collect(scores, self.trace(path, slot, frames), frames.number)

    def advance(self, frames: Frames) -> tuple[Ending, Tensor, Tensor]:
        """Take the beams through all frames.

        Returns:
            What the last one leaves; for each frame and slot something that `trace` can follow, (T', B, ...), int64;
            the logarithm of all factors that were divided out, (B,), float64.
        """
        (n_frames, B), device = frames.best.shape[:2], frames.best.device
        path = torch.empty(n_frames, B, 1, self.options.beam_size, dtype=torch.int64, device=device)
        scale = torch.empty(n_frames, B, 1, 1, dtype=torch.float64, device=device)
        beam = Beam(self.options, self.bonus, self.layout, B)
        steps = frames.steps(self.layout.n_wide)
        for frame, chosen, factor in zip(steps, path.unbind(0), scale.unbind(0), strict=True):
            beam.step(frame, chosen, factor)
        return beam.ending(), path[:, :, 0], scale.log().sum((0, 2, 3))

    def trace(self, path: Tensor, slot: Tensor, frames: Frames) -> Tensor:
        """Follow slots (B, n_best) back: the token that each frame added, 0 for none, (T', B, n_best), int64."""
        chosen = torch.empty(len(path), *slot.shape, dtype=torch.int64, device=path.device)
        for candidates, here in zip(reversed(path.unbind(0)), reversed(chosen.unbind(0)), strict=True):
            torch.gather(candidates, 1, slot, out=here)
            slot = self.layout.source.take(here)
        return frames.token[:, :, 0].gather(2, self.layout.column.take(chosen))


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
