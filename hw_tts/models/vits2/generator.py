"""The part of the model that speaks: encoders, flow, duration predictor, decoder and the table of speakers."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from hw_base.errors import ConfigError
from hw_tts.alignment.search import search_path
from hw_tts.models.blocks.regulator import frame_tokens
from hw_tts.models.vits2.alignment_scores import add_search_noise, add_search_prior, negative_cross_entropy
from hw_tts.models.vits2.decoder import Decoder
from hw_tts.models.vits2.duration_predictors import DurationPredictor, StochasticDurationPredictor
from hw_tts.models.vits2.encoders import PosteriorEncoder, TextEncoder
from hw_tts.models.vits2.flow import Flow
from hw_tts.models.vits2.layers import length_mask
from hw_tts.models.vits2.segments import cut, random_starts

Alignment = Literal["searched", "given"]


class Generator(nn.Module):
    """The names of its parts are those of the public checkpoints.

    Args:
        enc_p: text encoder, the prior.
        dec: decoder.
        enc_q: posterior encoder.
        flow: between the two latents.
        dp: duration predictor.
        emb_g: a row for each speaker; None for a single voice.
        segment_frames: what is decoded of each utterance in training.
        hop_length: samples of a frame.
        search_noise: whether the alignment search is noisy in the first 5000 steps.
        search_prior_steps: how long a prior holds the search near the diagonal.
        alignment: ``searched``, or ``given`` by the durations of the batch.

    Attributes:
        step: of the training; the trainer keeps it, it is no part of the state.
        steps_before: of the training before that one; see `VITS2.set_step`.
    """

    def __init__(
        self,
        enc_p: TextEncoder,
        dec: Decoder,
        enc_q: PosteriorEncoder,
        flow: Flow,
        dp: DurationPredictor | StochasticDurationPredictor,
        emb_g: nn.Embedding | None,
        segment_frames: int,
        hop_length: int,
        search_noise: bool,
        search_prior_steps: int = 0,
        alignment: Alignment = "searched",
    ) -> None:
        super().__init__()
        self.enc_p, self.dec, self.enc_q, self.flow, self.dp, self.emb_g = enc_p, dec, enc_q, flow, dp, emb_g
        self.segment_frames, self.hop_length, self.search_noise = segment_frames, hop_length, search_noise
        self.search_prior_steps, self.alignment = search_prior_steps, alignment
        self.step = self.steps_before = 0

    def speaker(self, speaker_id: Tensor | None) -> Tensor | None:
        """``speaker_id`` (B,) -> embedding (B, G, 1); None of a single voice."""
        if self.emb_g is None:
            return None
        assert speaker_id is not None, "a model of several speakers needs speaker_id"
        row: Tensor = self.emb_g(speaker_id)
        return row.unsqueeze(-1)

    def forward(
        self,
        tokens: Tensor,
        tokens_length: Tensor,
        spectrogram: Tensor,
        spectrogram_length: Tensor,
        waveform: Tensor,
        speaker_id: Tensor | None = None,
        durations: Tensor | None = None,
        **batch: Any,
    ) -> dict[str, Tensor]:
        """The training pass; see `VITS2.forward`."""
        tokens_mask = length_mask(tokens_length, tokens.shape[1])
        frames_mask = length_mask(spectrogram_length, spectrogram.shape[2])
        speaker = self.speaker(speaker_id)
        hidden, prior_mean, prior_log_scale = self.enc_p(tokens, tokens_mask, speaker)
        mean, log_scale = self.enc_q(spectrogram, frames_mask, speaker)
        latent = (mean + torch.randn_like(mean) * torch.exp(log_scale)) * frames_mask
        prior_latent = self.flow(latent, frames_mask, speaker)
        if self.alignment == "given":
            path = given_path(durations, frames_mask)
        else:
            path = self.align(prior_latent, prior_mean, prior_log_scale, spectrogram_length, tokens_length)
        frames = path.sum(dim=1)
        start = random_starts(spectrogram_length, self.segment_frames)
        predicted, subbands = self.dec(cut(latent, start, self.segment_frames), speaker)
        outputs = {
            "waveform_predicted": predicted,
            "waveform_segment": cut(waveform, start * self.hop_length, self.segment_frames * self.hop_length),
            "segment_start": start,
            "hidden": hidden,
            "tokens_mask": tokens_mask,
            "frames_mask": frames_mask,
            "durations": frames.long(),
            "alignment_hard": path,
            "prior_latent": prior_latent,
            "prior_mean": prior_mean @ path.mT.to(prior_mean.dtype),
            "prior_log_scale": prior_log_scale @ path.mT.to(prior_log_scale.dtype),
            "posterior_log_scale": log_scale,
        }
        outputs |= self._duration_outputs(hidden, tokens_mask, frames, speaker)
        return outputs if subbands is None else outputs | {"subbands_predicted": subbands}

    def _duration_outputs(
        self, hidden: Tensor, mask: Tensor, durations: Tensor, speaker: Tensor | None
    ) -> dict[str, Tensor]:
        # A given alignment may have symbols of no frames, a searched one never has.
        target = torch.log(durations.float().clamp(min=0.5) + 1e-6) * mask.squeeze(1)
        outputs = {"log_durations_target": target, "log_durations_predicted": self.dp(hidden, mask, speaker)}
        if isinstance(self.dp, StochasticDurationPredictor):
            outputs["durations_nll"] = self.dp.nll(hidden, mask, durations, speaker)
        return outputs

    @torch.no_grad()
    def align(
        self,
        prior_latent: Tensor,
        prior_mean: Tensor,
        prior_log_scale: Tensor,
        spectrogram_length: Tensor,
        tokens_length: Tensor,
    ) -> Tensor:
        """The best monotonic alignment (VITS, section 2.2.1), 0 and 1, (B, T, L)."""
        with torch.autocast(prior_latent.device.type, enabled=False):
            scores = negative_cross_entropy(prior_latent, prior_mean, prior_log_scale)
            if self.training and self.search_noise:
                frames = length_mask(spectrogram_length, scores.shape[1])
                valid = frames.mT & length_mask(tokens_length, scores.shape[2])
                scores = add_search_noise(scores, valid, self.steps_before + self.step)
            if self.training:
                steps = self.search_prior_steps
                scores = add_search_prior(scores, spectrogram_length, tokens_length, self.step, steps)
            return search_path(scores, spectrogram_length, tokens_length)


def given_path(durations: Tensor | None, frames_mask: Tensor) -> Tensor:
    """Durations in frames, int64, (B, L), as an alignment of 0 and 1, (B, T, L).

    Raises:
        ConfigError: the data has no alignments.
    """
    if durations is None:
        raise ConfigError("model.args.alignment is given, but the data has no alignments; set it to searched")
    tokens = frame_tokens(durations, frames_mask.shape[2]).unsqueeze(2)
    path = tokens == torch.arange(durations.shape[1], device=durations.device)
    return (path & frames_mask.mT).float()
