"""Alignments learned in training, without an aligner: Badlani et al. 2021, "One TTS Alignment To Rule Them All".

Every frame gets a distribution over the tokens; the forward sum makes all monotonic alignments together likely, the
search picks the best of them, and binarization pulls the distributions towards it.
"""

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from hw_base.nn.layers import length_mask

# A log probability that is no probability, and still finite, so that no gradient becomes NaN.
IMPOSSIBLE = -1e4


class AlignmentEncoder(nn.Module):
    """Which token each frame sounds like: distances between encodings of tokens and of frames.

    Badlani et al. 2021, section 2.1 and equations (1) to (3), with the prior of section 2.4. Frames and tokens of the
    padding have no influence. Computes in float32 also under autocast.

    Args:
        n_text_channels: D of the tokens' vectors.
        n_mels: feature bins of the spectrogram.
        n_channels: of the space in which distances are measured.
        temperature: factor on squared distances. With the 0.0005 of public code it takes twice the steps to learn.
        prior_scale: of `log_prior`; larger ones hold the alignment closer to the diagonal.
    """

    def __init__(
        self,
        n_text_channels: PositiveInt,
        n_mels: PositiveInt,
        n_channels: PositiveInt = 80,
        temperature: PositiveFloat = 0.02,
        prior_scale: PositiveFloat = 1.0,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.prior_scale = prior_scale
        self.keys = nn.Sequential(
            nn.Conv1d(n_text_channels, 2 * n_text_channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(2 * n_text_channels, n_channels, 1),
        )
        self.queries = nn.Sequential(
            nn.Conv1d(n_mels, 2 * n_mels, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(2 * n_mels, n_mels, 1),
            nn.ReLU(),
            nn.Conv1d(n_mels, n_channels, 1),
        )

    def forward(self, hidden: Tensor, tokens_length: Tensor, spectrogram: Tensor, spectrogram_length: Tensor) -> Tensor:
        """The distribution of every frame over the tokens.

        Args:
            hidden (Tensor): vectors of the tokens, (B, L, D).
            tokens_length (Tensor): int64, (B,).
            spectrogram (Tensor): log-mel, (B, F, T).
            spectrogram_length (Tensor): int64, (B,).

        Returns:
            alignment_log_probs (Tensor): natural log, sums to 1 over the tokens of each frame, `IMPOSSIBLE` or less in
                the tokens' padding, float32, (B, T, L).
        """
        token_mask = length_mask(tokens_length, hidden.shape[1])[:, None]
        frame_mask = length_mask(spectrogram_length, spectrogram.shape[2])[:, None]
        with torch.autocast(hidden.device.type, enabled=False):
            keys = self.keys(hidden.float().transpose(1, 2).masked_fill(~token_mask, 0.0))
            queries = self.queries(_standardized(spectrogram.float(), frame_mask))
            # |q - k|^2 less |q|^2, which is the same for all tokens of a frame.
            near = 2 * queries.transpose(1, 2) @ keys - keys.square().sum(1, keepdim=True)
            prior = log_prior(spectrogram_length, tokens_length, near.shape[1], near.shape[2], self.prior_scale)
            log_probs: Tensor = (self.temperature * near + prior).masked_fill(~token_mask, IMPOSSIBLE).log_softmax(2)
        return log_probs


def _standardized(spectrogram: Tensor, mask: Tensor) -> Tensor:
    """Every bin with mean 0 and deviation 1 over the utterance, 0 in the padding.

    On log-mel values as they are, learning an alignment takes some ten times as many steps.
    """
    count = mask.sum(2, keepdim=True).clamp(min=1)
    centered = spectrogram - (spectrogram * mask).sum(2, keepdim=True) / count
    centered = centered.masked_fill(~mask, 0.0)
    return centered / (centered.square().sum(2, keepdim=True) / count + 1e-3).sqrt()


@torch.no_grad()
def log_prior(
    spectrogram_length: Tensor, tokens_length: Tensor, n_frames: int, n_tokens: int, scale: float = 1.0
) -> Tensor:
    """Tokens that a frame may belong to by its position alone: beta-binomial around the diagonal.

    Badlani et al. 2021, section 2.4, with n = L - 1, so that the probabilities of the L tokens sum to 1. Of frame t of
    T, counted from 1: ``k ~ BetaBinomial(L - 1, scale * t, scale * (T - t + 1))``.

    Args:
        spectrogram_length (Tensor): int64, (B,).
        tokens_length (Tensor): int64, (B,).
        n_frames: T of the padded batch.
        n_tokens: L of the padded batch.
        scale: larger ones make it narrower.

    Returns:
        prior (Tensor): natural log, 0 in the padding, float32, (B, T, L).
    """
    device = spectrogram_length.device
    k = torch.arange(n_tokens, device=device)
    t = torch.arange(n_frames, device=device)
    last, back = tokens_length[:, None] - 1 - k, spectrogram_length[:, None] - 1 - t  # from the end, (B, L) and (B, T)
    valid = (back >= 0)[:, :, None] & (last >= 0)[:, None, :]
    last, back = last.clamp(min=0), back.clamp(min=0)
    # log Gamma(k + scale t) is all that depends on both; it depends on no length, and serves both ends.
    alpha = scale * (t + 1).double()
    table = torch.lgamma(k + alpha[:, None])
    log_choices = (
        torch.lgamma(tokens_length.double())[:, None] - torch.lgamma(k.double() + 1) - torch.lgamma(last.double() + 1)
    )
    total = scale * (spectrogram_length + 1).double()
    of_frame = torch.lgamma(total) - torch.lgamma(total + tokens_length - 1)
    of_frame = of_frame[:, None] - torch.lgamma(alpha) - torch.lgamma(alpha)[back]
    mirrored = table.flatten()[back[:, :, None] * n_tokens + last[:, None, :]]
    log_prob = table + mirrored + log_choices[:, None, :] + of_frame[:, :, None]
    return log_prob.masked_fill(~valid, 0.0).float()
