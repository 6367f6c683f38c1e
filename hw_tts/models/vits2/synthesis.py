"""What a trained generator does: speaks tokens, and says a recording with another voice."""

import torch
from torch import Tensor

from hw_base.errors import ConfigError
from hw_tts.models.base import Factor
from hw_tts.models.blocks.durations import whole_durations
from hw_tts.models.blocks.regulator import largest
from hw_tts.models.vits2.duration_predictors import StochasticDurationPredictor
from hw_tts.models.vits2.generator import Generator
from hw_tts.models.vits2.layers import draws, length_mask
from hw_tts.models.vits2.segments import expand

# Frames of one token, above which a duration is a mistake; it bounds the memory that a bad checkpoint takes.
MAX_FRAMES = 1000


@torch.inference_mode()
def synthesize(
    generator: Generator,
    tokens: Tensor,
    tokens_length: Tensor,
    speaker: Tensor | None,
    speed: Factor,
    noise: Factor,
    duration_noise: Factor,
) -> dict[str, Tensor]:
    """Text to waveform; arguments as of `VITS2.synthesize`, ``speaker`` (B, G, 1)."""
    mask = _mask(tokens_length, tokens.shape[1])
    hidden, mean, log_scale = generator.enc_p(tokens, mask, speaker)
    durations = predict_durations(generator, hidden, mask, speaker, speed, duration_noise)
    length = durations.sum(dim=1)
    n_frames = largest(length)
    mean, log_scale = expand(mean, durations, n_frames), expand(log_scale, durations, n_frames)
    latent = mean + torch.exp(log_scale) * draws(mean.shape, noise, mean.device)
    mask = _mask(length, n_frames)
    waveform = decode(generator, latent if mask is None else latent * mask, mask, speaker)
    return {"waveform": waveform, "waveform_length": length * generator.hop_length, "durations": durations}


def predict_durations(
    generator: Generator,
    hidden: Tensor,
    mask: Tensor | None,
    speaker: Tensor | None,
    speed: Factor,
    duration_noise: Factor,
) -> Tensor:
    """Frames of each token, int64, (B, L), none in the padding.

    As published, at least one each and rounded up: a searched alignment gives every token a frame. Where durations were
    given in training, rounding up would make speech too slow, by half a frame for each token; they are rounded.
    """
    if isinstance(generator.dp, StochasticDurationPredictor):
        log_durations = generator.dp(hidden, mask, speaker, duration_noise)
    else:
        log_durations = generator.dp(hidden, mask, speaker)
    frames = (torch.exp(log_durations) / speed).clamp(max=MAX_FRAMES)
    if generator.alignment == "given":
        valid = torch.ones_like(frames, dtype=torch.bool) if mask is None else mask.squeeze(1)
        return whole_durations(frames, valid, "linear")
    durations = torch.ceil(frames).clamp(min=1).long()
    return durations if mask is None else durations * mask.squeeze(1)


def decode(generator: Generator, prior_latent: Tensor, mask: Tensor | None, speaker: Tensor | None) -> Tensor:
    """The prior's latent (B, C, T), 0 in the padding -> waveform (B, S), 0 in the padding."""
    latent = generator.flow(prior_latent, mask, speaker, inverse=True)
    waveform: Tensor = generator.dec(latent, speaker)[0]
    if mask is None:
        return waveform
    return waveform * mask.squeeze(1).repeat_interleave(generator.hop_length, dim=1)


@torch.inference_mode()
def convert(
    generator: Generator,
    spectrogram: Tensor,
    spectrogram_length: Tensor,
    source: Tensor | None,
    target: Tensor | None,
    noise: float,
) -> dict[str, Tensor]:
    """Voice conversion (VITS, section 4.5); arguments as of `VITS2.voice_conversion`, speakers (B, G, 1)."""
    if source is None or target is None:
        raise ConfigError("voice conversion needs a model of several speakers; this one has a single voice")
    mask = _mask(spectrogram_length, spectrogram.shape[2])
    mean, log_scale = generator.enc_q(spectrogram, mask, source)
    latent = mean + torch.randn_like(mean) * torch.exp(log_scale) * noise if noise else mean
    prior_latent = generator.flow(latent if mask is None else latent * mask, mask, source)
    waveform = decode(generator, prior_latent, mask, target)
    return {"waveform": waveform, "waveform_length": spectrogram_length * generator.hop_length}


def _mask(length: Tensor, size: int) -> Tensor | None:
    """No mask where every row is full: a single utterance is spared the multiplications."""
    if torch.compiler.is_exporting():  # a graph is for any lengths, but a single utterance has no padding
        return None if length.shape[0] == 1 else length_mask(length, size)
    return None if bool((length == size).all()) else length_mask(length, size)
