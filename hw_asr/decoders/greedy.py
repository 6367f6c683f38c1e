"""The most probable token of each frame."""

import torch
from torch import Tensor

from hw_asr.decoders.base import BaseDecoder, Hypothesis
from hw_asr.decoders.checks import check_posteriors
from hw_base.registry import DECODERS


@DECODERS.register("Greedy")
class GreedyDecoder(BaseDecoder):
    """Best-path decoding (Graves et al. 2006, "Connectionist Temporal Classification", section 3.2).

    A token is emitted where it differs from the frame before, so that a blank between two equal tokens keeps both. The
    score is the log-probability of the best path, a lower bound of the transcript's own.
    """

    exact = False

    @torch.no_grad()
    def __call__(self, log_probs: Tensor, log_probs_length: Tensor) -> list[list[Hypothesis]]:
        """One hypothesis for each utterance; arguments as in `BaseDecoder`."""
        check_posteriors(log_probs, log_probs_length, len(self.text_encoder))
        n_frames = log_probs.shape[1]
        valid = torch.arange(n_frames, device=log_probs.device) < log_probs_length.to(log_probs.device)[:, None]
        values, best = log_probs.max(dim=-1)
        scores = values.double().masked_fill(~valid, 0.0).sum(dim=-1).tolist()
        before = torch.nn.functional.pad(best, (1, 0))[:, :n_frames]
        emitted = ((best != 0) & (best != before) & valid).cpu()
        hypotheses = []
        for tokens, keep, score in zip(best.cpu(), emitted, scores, strict=True):
            ids = tuple(tokens[keep].tolist())
            frames = tuple(keep.nonzero().flatten().tolist())
            text = self.text_encoder.decode(ids)
            hypotheses.append([Hypothesis(text, ids, score, acoustic_score=score, timesteps=frames)])
        return hypotheses
