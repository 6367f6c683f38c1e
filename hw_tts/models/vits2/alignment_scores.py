"""How well each frame of the latent fits each token (VITS, equation 5), with VITS2's noise (section 2.2)."""

import math

import torch
from torch import Tensor

from hw_tts.models.blocks.aligner import log_prior

# VITS2, section 2.2: the noise begins at this share of the scores' deviation and shrinks by so much a step.
NOISE_START = 0.01
NOISE_DECAY = 2e-6


def negative_cross_entropy(latent: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log-likelihood of every frame under every token's normal distribution.

    Args:
        latent (Tensor): of the prior, (B, C, T).
        mean (Tensor): (B, C, L).
        log_scale (Tensor): natural log of the deviations, (B, C, L).

    Returns:
        Tensor: float32, (B, T, L).
    """
    latent, mean, log_scale = latent.float(), mean.float(), log_scale.float()
    precision = torch.exp(-2 * log_scale)
    constant = (-0.5 * math.log(2 * math.pi) - log_scale - 0.5 * mean.square() * precision).sum(dim=1, keepdim=True)
    return constant - 0.5 * latent.square().mT @ precision + latent.mT @ (mean * precision)


def add_search_prior(
    scores: Tensor, spectrogram_length: Tensor, tokens_length: Tensor, step: int, n_steps: int
) -> Tensor:
    """Scores that hold the search near the diagonal early in training.

    A latent that says nothing yet leaves the search to chance: whatever token it first gives many frames to explains
    them best ever after, and the durations of the others stay too short. The prior is that of Badlani et al. 2021,
    "One TTS Alignment To Rule Them All", section 2.4, and fades in proportion.

    Args:
        scores (Tensor): (B, T, L).
        spectrogram_length (Tensor): int64, (B,).
        tokens_length (Tensor): int64, (B,).
        step: of the training.
        n_steps: after which nothing is left of it.

    Returns:
        Tensor: (B, T, L).
    """
    if step >= n_steps:
        return scores
    prior = log_prior(spectrogram_length, tokens_length, scores.shape[1], scores.shape[2])
    return scores + (1.0 - step / n_steps) * prior


def search_noise(step: int) -> float:
    """The share of noise at a step; 0 from step 5000."""
    return max(0.0, NOISE_START - NOISE_DECAY * step)


def add_search_noise(scores: Tensor, mask: Tensor, step: int) -> Tensor:
    """Scores with noise that makes the search try other paths early in training.

    The noise depends on the step alone, so it takes nothing from the generator that the rest of the
    training draws from.

    Args:
        scores (Tensor): (B, T, L).
        mask (Tensor): bool, (B, T, L); what is false does not count for the deviation.
        step: of the training.
    """
    share = search_noise(step)
    if share == 0.0:
        return scores
    generator = torch.Generator(scores.device).manual_seed(step)
    count = mask.sum()
    mean = (scores * mask).sum() / count
    deviation = (((scores - mean) * mask).square().sum() / count).sqrt()
    noise = torch.randn(scores.shape, generator=generator, device=scores.device)
    return scores + share * deviation * noise
