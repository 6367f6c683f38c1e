"""Ren et al. 2019, "FastSpeech: Fast, Robust and Controllable Text to Speech" (arXiv 1905.09263)."""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from hw_base.config.schema import Depth, Size
from hw_base.errors import ConfigError
from hw_base.registry import MODELS
from hw_tts.models.base import Factor, SynthesisModel
from hw_tts.models.blocks.backbone import SpectrogramDecoder, TextEncoder, best_spectrogram
from hw_tts.models.blocks.durations import PREDICTED_KEYS, DurationDomain, whole_durations
from hw_tts.models.blocks.fft_block import FFTStack, NormPlace
from hw_tts.models.blocks.positions import Beyond, PositionName, make_positions
from hw_tts.models.blocks.postnet import PostNetName
from hw_tts.models.blocks.regulator import expand
from hw_tts.models.blocks.variance import VariancePredictor

Share = Annotated[float, Field(ge=0, lt=1)]


@MODELS.register()
class FastSpeech(SynthesisModel):
    """Tokens, each repeated for its duration, to a spectrogram without recurrence.

    The defaults are the sizes of the widespread implementation with pre-LN blocks. As published there (25,367,169
    parameters with 300 tokens, of which 845,312 are frozen tables of sinusoids, computed here, and 6,400 belong to a
    layer that is never called): ``norm="post"``, ``postnet="cbhg"``, ``duration_domain="linear"``,
    ``first_position=1``, ``predictor_dropout=0.1``, ``predictor_norm_first=true``. As in the seminar of the course:
    ``norm="post"``, ``positions="learned"``, ``duration_domain="linear"``.

    Args:
        n_mels: feature bins of the spectrogram.
        n_tokens: vocabulary, the padding included.
        n_speakers: voices.
        n_encoder_layers: FFT blocks before the length regulator.
        n_decoder_layers: FFT blocks behind it.
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
        duration_domain: predict ``log(d + 1)`` or frames (``linear``). No ReLU follows: a predictor that falls below 0
            must still get a gradient, and what is spoken is clamped.
        predictor_width: channels of the duration predictor.
        predictor_kernel_size: of its convolutions, odd.
        predictor_dropout: of its layers.
        predictor_norm_first: see `VariancePredictor`.
        postnet: ``cbhg`` as in the widespread implementation, ``tacotron2``, or ``none`` as in the paper.
    """

    needs_durations = True
    speaker_tables = ("encoder.speakers.weight",)
    training_arguments = ("dropout", "attention_dropout", "predictor_dropout")

    def __init__(
        self,
        n_mels: int,
        n_tokens: int,
        n_speakers: int = 1,
        n_encoder_layers: Depth = 4,
        n_decoder_layers: Depth = 4,
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
        duration_domain: DurationDomain = "log",
        predictor_width: Size = 256,
        predictor_kernel_size: Size = 3,
        predictor_dropout: Share = 0.5,
        predictor_norm_first: bool = False,
        postnet: PostNetName = "none",
    ) -> None:
        super().__init__()
        sizes = (width, n_heads, ff_width, kernel_sizes, norm, dropout, attention_dropout)
        places = (positions, width, n_positions, beyond_positions, first_position)
        encoder_stack, decoder_stack = FFTStack(n_encoder_layers, *sizes), FFTStack(n_decoder_layers, *sizes)
        self.encoder = TextEncoder(n_tokens, width, n_speakers, make_positions(*places), encoder_stack)
        self.duration_predictor = VariancePredictor(
            width, predictor_width, predictor_kernel_size, predictor_dropout, predictor_norm_first
        )
        self.duration_domain = duration_domain
        self.decoder = SpectrogramDecoder(width, n_mels, make_positions(*places), decoder_stack, postnet)

    def forward(
        self,
        tokens: Tensor,
        tokens_length: Tensor,
        spectrogram: Tensor,
        durations: Tensor | None = None,
        speaker_id: Tensor | None = None,
        **batch: Any,
    ) -> dict[str, Tensor]:
        """Spectrogram with given durations, and a prediction of them.

        Args:
            tokens (Tensor): (B, L), int64.
            tokens_length (Tensor): (B,), int64.
            spectrogram (Tensor): (B, F, T); only its T is looked at.
            durations (Tensor): frames, (B, L), int64; zero is allowed.
            speaker_id (Tensor): (B,), int64.
            batch: not used.

        Returns:
            spectrogram_predicted (Tensor): float32, (B, F, T), 0 in the padding.
            spectrogram_refined (Tensor): likewise, with a post-net.
            log_durations_predicted (Tensor): ``log(d + 1)``, float32, (B, L), or, in the linear domain,
                ``durations_predicted``.

        Raises:
            ConfigError: the data has no alignments, or names no speakers for a model of several.
        """
        hidden, mask = self.encoder(tokens, tokens_length, speaker_id)
        predicted = self.duration_predictor(hidden, mask)
        frames, length = expand(hidden, given(durations), spectrogram.shape[-1])
        return {**self.decoder(frames, length), PREDICTED_KEYS[self.duration_domain]: predicted}

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
            pitch: must be 1; there is no such control.
            energy: must be 1; there is no such control.

        Returns:
            spectrogram (Tensor): the refined one if there is one, float32, (B, F, T), 0 in the padding.
            spectrogram_length (Tensor): frames, at least one, (B,), int64.
            durations (Tensor): frames, (B, L), int64.

        Raises:
            ConfigError: a control that the model does not have, or no speaker for a model of several.
        """
        if pitch != 1.0 or energy != 1.0:
            raise ConfigError("FastSpeech can change the speed only; pitch and energy need a FastSpeech2")
        hidden, mask = self.encoder(tokens, tokens_length, speaker_id)
        durations = whole_durations(self.duration_predictor(hidden, mask), mask, self.duration_domain, speed)
        frames, length = expand(hidden, durations, None)
        spectrogram = best_spectrogram(self.decoder(frames, length))
        return {"spectrogram": spectrogram, "spectrogram_length": length, "durations": durations}


def given(durations: Tensor | None) -> Tensor:
    """Durations of the data.

    Raises:
        ConfigError: there are none.
    """
    if durations is None:
        raise ConfigError(
            "the model learns from given durations, and the data has none: name alignments in the data section, or "
            "take FastSpeech2 with alignment='learned'"
        )
    return durations
