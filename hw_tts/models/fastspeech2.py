"""Ren et al. 2021, "FastSpeech 2: Fast and High-Quality End-to-End Text to Speech" (arXiv 2006.04558)."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from hw_base.config.schema import Depth, Size
from hw_base.nn.layers import length_mask
from hw_base.registry import MODELS
from hw_tts.alignment.search import search_path
from hw_tts.models.base import Factor, SynthesisModel, refuse_unless_positive
from hw_tts.models.blocks.aligner import AlignmentEncoder
from hw_tts.models.blocks.backbone import SpectrogramDecoder, TextEncoder, best_spectrogram
from hw_tts.models.blocks.durations import PREDICTED_KEYS, whole_durations
from hw_tts.models.blocks.fft_block import FFTStack, NormPlace
from hw_tts.models.blocks.positions import Beyond, PositionName, make_positions
from hw_tts.models.blocks.postnet import PostNetName
from hw_tts.models.blocks.regulator import average_by_duration, expand
from hw_tts.models.blocks.variance import (
    Bins,
    ContinuousEmbedding,
    Embedding,
    EmbeddingName,
    FourierEmbedding,
    QuantizedEmbedding,
    Variance,
    VariancePredictor,
)
from hw_tts.models.fastspeech import given

Share = Annotated[float, Field(ge=0, lt=1)]
Level = Literal["phone", "frame"]


@MODELS.register()
class FastSpeech2(SynthesisModel):
    """FastSpeech with pitch and energy added to the hidden states: the recorded ones in training, predicted ones after.

    The defaults are the sizes of the widespread implementation (4 + 6 blocks of width 256) with pre-LN blocks and
    logarithmic pitch. With ``norm="post"`` and ``postnet="tacotron2"`` and 361 tokens it has 34,646,339 parameters; the
    35,159,361 counted there (29,385,537 with four decoder blocks) hold two frozen tables of 1001 sinusoids, computed
    here, and two of 255 boundaries of bins, buffers here.

    Args:
        n_mels: feature bins of the spectrogram.
        n_tokens: vocabulary, the padding included.
        n_speakers: voices.
        n_encoder_layers: FFT blocks before the variances.
        n_decoder_layers: FFT blocks behind them.
        width: D, of both.
        n_heads: of the attention; a divisor of the width.
        ff_width: channels within the feed-forwards.
        kernel_sizes: of the two convolutions of a feed-forward, odd.
        norm: layer norms before each branch (``pre``) or behind each sum (``post``, as published).
        positions: ``sinusoidal``, or ``learned`` tables.
        n_positions: rows of learned tables.
        beyond_positions: what becomes of sequences longer than a learned table.
        first_position: number of the first token and frame for sinusoids.
        dropout: of the FFT blocks.
        attention_dropout: of attention weights; with 0 a CPU fuses the attention, 7 % of a step.
        predictor_width: channels of the three predictors.
        predictor_kernel_size: of their convolutions, odd.
        predictor_dropout: of their layers.
        variance_level: one pitch and energy for each token (its mean over the token's frames) or for each frame.
        variance_embedding: ``quantized`` as in the paper; ``continuous``, a convolution over values; ``fourier``, over
            sines of the pitch too, so that harmonics follow the pitch sooner.
        n_bins: of quantized values.
        pitch_bins: where the boundaries lie.
        energy_bins: where the boundaries lie.
        log_pitch: normalize and predict the logarithm of F0.
        alignment: durations come from the data (``given``), or are ``learned`` together with the rest, which needs the
            losses `ForwardSumLoss` and `BinarizationLoss`.
        postnet: ``tacotron2`` as in the widespread implementation, ``cbhg``, or ``none`` as in the paper.
    """

    needs_durations = True
    uses_statistics = True
    speaker_tables = ("encoder.speakers.weight",)
    training_arguments = ("dropout", "attention_dropout", "predictor_dropout", "alignment")

    def __init__(
        self,
        n_mels: int,
        n_tokens: int,
        n_speakers: int = 1,
        n_encoder_layers: Depth = 4,
        n_decoder_layers: Depth = 6,
        width: Size = 256,
        n_heads: Size = 2,
        ff_width: Size = 1024,
        kernel_sizes: tuple[Size, Size] = (9, 1),
        norm: NormPlace = "pre",
        positions: PositionName = "sinusoidal",
        n_positions: Size = 3000,
        beyond_positions: Beyond = "interpolate",
        first_position: Literal[0, 1] = 0,
        dropout: Share = 0.1,
        attention_dropout: Share = 0.1,
        predictor_width: Size = 256,
        predictor_kernel_size: Size = 3,
        predictor_dropout: Share = 0.5,
        variance_level: Level = "phone",
        variance_embedding: EmbeddingName = "quantized",
        n_bins: Annotated[int, Field(ge=2)] = 256,
        pitch_bins: Bins = "linear",
        energy_bins: Bins = "linear",
        log_pitch: bool = True,
        alignment: Literal["given", "learned"] = "given",
        postnet: PostNetName = "none",
    ) -> None:
        super().__init__()
        sizes = (width, n_heads, ff_width, kernel_sizes, norm, dropout, attention_dropout)
        places = (positions, width, n_positions, beyond_positions, first_position)
        predictor = (width, predictor_width, predictor_kernel_size, predictor_dropout)
        encoder_stack, decoder_stack = FFTStack(n_encoder_layers, *sizes), FFTStack(n_decoder_layers, *sizes)
        self.encoder = TextEncoder(n_tokens, width, n_speakers, make_positions(*places), encoder_stack)
        self.aligner = AlignmentEncoder(width, n_mels) if alignment == "learned" else None
        self.duration_predictor = VariancePredictor(*predictor)
        self.level = variance_level

        def embedding(name: EmbeddingName, bins: Bins) -> Embedding:
            if name == "quantized":
                return QuantizedEmbedding(width, n_bins, bins)
            return FourierEmbedding(width) if name == "fourier" else ContinuousEmbedding(width)

        of_energy: EmbeddingName = "continuous" if variance_embedding == "fourier" else variance_embedding
        self.pitch = Variance(
            "pitch", VariancePredictor(*predictor), embedding(variance_embedding, pitch_bins), log_pitch
        )
        self.energy = Variance("energy", VariancePredictor(*predictor), embedding(of_energy, energy_bins))
        self.decoder = SpectrogramDecoder(width, n_mels, make_positions(*places), decoder_stack, postnet)

    def set_statistics(self, statistics: Mapping[str, float]) -> None:
        """Take over what was measured on the training split, before training; it travels in the checkpoint.

        Args:
            statistics: ``pitch_mean``, ``pitch_std`` in Hz, ``energy_mean``, ``energy_std``, and if known also
                ``pitch_min``, ``pitch_max``, ``energy_min``, ``energy_max``, ``pitch_log_mean``, ``pitch_log_std``.

        Raises:
            ConfigError: see `Variance.set_statistics`.
        """
        for variance in (self.pitch, self.energy):
            variance.set_statistics({k: v for k, v in statistics.items() if k.startswith(f"{variance.name}_")})

    def forward(
        self,
        tokens: Tensor,
        tokens_length: Tensor,
        spectrogram: Tensor,
        spectrogram_length: Tensor,
        pitch: Tensor,
        energy: Tensor,
        durations: Tensor | None = None,
        speaker_id: Tensor | None = None,
        **batch: Any,
    ) -> dict[str, Tensor]:
        """Spectrogram with given durations, pitch and energy, and predictions of them.

        Args:
            tokens (Tensor): (B, L), int64.
            tokens_length (Tensor): (B,), int64.
            spectrogram (Tensor): (B, F, T); only its T is looked at, unless alignments are learned.
            spectrogram_length (Tensor): (B,), int64.
            pitch (Tensor): F0 in Hz, (B, T).
            energy (Tensor): (B, T).
            durations (Tensor): frames, (B, L), int64; zero is allowed. Not looked at where they are learned.
            speaker_id (Tensor): (B,), int64.
            batch: not used.

        Returns:
            spectrogram_predicted (Tensor): float32, (B, F, T), 0 in the padding.
            spectrogram_refined (Tensor): likewise, with a post-net.
            log_durations_predicted (Tensor): ``log(d + 1)``, float32, (B, L).
            pitch_predicted, energy_predicted (Tensor): normalized, float32, (B, N), N being L or T by the level.
            pitch_target, energy_target (Tensor): likewise, of the recording.
            variance_length (Tensor): their valid values, (B,), int64.
            durations (Tensor): those of the learned alignment, int64, (B, L).
            alignment_log_probs (Tensor): of tokens for each frame, where learned, float32, (B, T, L).
            alignment_hard (Tensor): 1 on the best path through them, float32, (B, T, L).

        Raises:
            ConfigError: the data has no alignments, or names no speakers for a model of several.
        """
        hidden, mask = self.encoder(tokens, tokens_length, speaker_id)
        outputs = {PREDICTED_KEYS["log"]: self.duration_predictor(hidden, mask)}
        if self.aligner is not None:
            outputs |= self._aligned(self.aligner, tokens, tokens_length, spectrogram, spectrogram_length)
        durations = given(outputs.get("durations", durations))
        targets = {"pitch": self.pitch.normalize(pitch), "energy": self.energy.normalize(energy)}
        if self.level == "phone":
            targets = {name: average_by_duration(values, durations) for name, values in targets.items()}
            hidden = self._varied(hidden, mask, outputs, targets)
        frames, length = expand(hidden, durations, spectrogram.shape[-1])
        if self.level == "frame":
            frames = self._varied(frames, length_mask(length, frames.shape[1]), outputs, targets)
        outputs["variance_length"] = tokens_length if self.level == "phone" else length
        outputs |= {f"{name}_target": values for name, values in targets.items()}
        return {**outputs, **self.decoder(frames, length)}

    def _aligned(
        self, aligner: AlignmentEncoder, tokens: Tensor, tokens_length: Tensor, spectrogram: Tensor, length: Tensor
    ) -> dict[str, Tensor]:
        log_probs = aligner(self.encoder.embedding(tokens), tokens_length, spectrogram, length)
        path = search_path(log_probs.detach(), length, tokens_length)
        return {"alignment_log_probs": log_probs, "alignment_hard": path, "durations": path.sum(1).long()}

    def _varied(self, x: Tensor, mask: Tensor, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        """Predict, and add what was recorded."""
        for variance in (self.pitch, self.energy):
            outputs[f"{variance.name}_predicted"] = variance(x, mask)
            x = x + variance.embed(targets[variance.name], mask)
        return x

    @torch.no_grad()
    def synthesize(
        self,
        tokens: Tensor,
        tokens_length: Tensor,
        speaker_id: Tensor | None = None,
        speed: Factor = 1.0,
        pitch: Factor = 1.0,
        energy: Factor = 1.0,
    ) -> dict[str, Tensor]:
        """Speak tokens; call `eval` before.

        Args:
            tokens (Tensor): (B, L), int64.
            tokens_length (Tensor): (B,), int64.
            speaker_id (Tensor): (B,), int64.
            speed: by which durations are divided.
            pitch: by which F0 in Hz is multiplied.
            energy: by which the energy is multiplied.

        Returns:
            spectrogram (Tensor): the refined one if there is one, float32, (B, F, T), 0 in the padding.
            spectrogram_length (Tensor): frames, at least one, (B,), int64.
            durations (Tensor): frames, (B, L), int64.
            pitch (Tensor): F0 in Hz with its factor, (B, N), N being L or T by the level.
            energy (Tensor): with its factor, (B, N).

        Raises:
            ConfigError: a factor is not positive, or no speaker for a model of several.
        """
        factors: dict[str, Factor] = {"pitch": pitch, "energy": energy}
        hidden, mask = self.encoder(tokens, tokens_length, speaker_id)
        durations = whole_durations(self.duration_predictor(hidden, mask), mask, "log", speed)
        outputs = {"durations": durations}
        if self.level == "phone":
            hidden = self._controlled(hidden, mask, outputs, factors)
        frames, length = expand(hidden, durations, None)
        if self.level == "frame":
            frames = self._controlled(frames, length_mask(length, frames.shape[1]), outputs, factors)
        spectrogram = best_spectrogram(self.decoder(frames, length))
        return {**outputs, "spectrogram": spectrogram, "spectrogram_length": length}

    def exported_controls(self) -> dict[str, Tensor]:
        return {name: torch.tensor(1.0) for name in ("speed", "pitch", "energy")}

    def _controlled(self, x: Tensor, mask: Tensor, outputs: dict[str, Tensor], factors: dict[str, Factor]) -> Tensor:
        """Add what is predicted, times its factor in its own unit."""
        for variance in (self.pitch, self.energy):
            factor = factors[variance.name]
            refuse_unless_positive(variance.name, factor)
            predicted = variance(x, mask)
            changed = variance.normalize(variance.denormalize(predicted) * factor)
            # So that no rounding moves a value over a boundary where nothing was asked for.
            asked = factor.to(x.device) if isinstance(factor, Tensor) else torch.full((), factor, device=x.device)
            values = torch.where(asked == 1.0, predicted, changed)
            outputs[variance.name] = variance.denormalize(values).masked_fill(~mask, 0.0)
            x = x + variance.embed(values, mask)
        return x
