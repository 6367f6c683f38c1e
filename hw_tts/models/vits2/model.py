"""VITS2 with decoders that end in an inverse Fourier transform.

Sources: Kim et al. 2021, "Conditional Variational Autoencoder with Adversarial Learning for End-to-End Text-to-Speech"
(arXiv 2106.06103); Kong et al. 2023, "VITS2" (arXiv 2307.16430); Kawamura et al. 2023, multi-band iSTFT decoders (arXiv
2210.15975).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn

from hw_base.config.schema import Depth, Size
from hw_base.errors import ConfigError
from hw_base.registry import MODELS
from hw_tts.models.base import Factor, SynthesisModel, refuse_unless_positive
from hw_tts.models.blocks.weight_norm import fold_weight_norm
from hw_tts.models.vits2 import synthesis
from hw_tts.models.vits2.decoder import DECODERS, DecoderKind, DecoderSizes
from hw_tts.models.vits2.discriminators import Discriminators, DurationDiscriminator
from hw_tts.models.vits2.duration_predictors import DurationPredictor, StochasticDurationPredictor
from hw_tts.models.vits2.encoders import PosteriorEncoder, TextEncoder
from hw_tts.models.vits2.filter_bank import Bank
from hw_tts.models.vits2.flow import Flow, FlowKind
from hw_tts.models.vits2.generator import Alignment, Generator
from hw_tts.models.vits2.sizes import PresetName, check, complete, preset_with

Dropout = Annotated[float, Field(ge=0, lt=1)]
Positives = Annotated[tuple[Size, ...], Field(min_length=1)]


@MODELS.register()
class VITS2(SynthesisModel):
    """Text to waveform in one model: a variational autoencoder with a flow, trained against discriminators.

    The defaults are those of the public multi-band checkpoints of VCTK, but for the filter bank.

    Args:
        n_mels: bins of the spectrogram that the posterior encoder sees.
        n_tokens: size of the symbol table, the blank included.
        n_speakers: rows of the table of speakers; 1 for a single voice, which has no table.
        hop_length: samples of a frame; the decoder must make as many.
        preset: a published model: ``mb_istft_vits2``, ``ms_istft_vits2``, ``istft_vits2``, ``vits2`` (HiFi-GAN),
            ``mini_mb_istft_vits2`` or ``mini_istft_vits2``; see `hw_tts.models.vits2.sizes.PRESETS`.
        inter_channels: of the latent, even.
        hidden_channels: width of encoders and flow; the preset's if it is not given.
        filter_channels: inner width of the text encoder's feed-forward parts.
        speaker_channels: width of the speaker embedding.
        n_heads: of the text encoder.
        n_layers: of the text encoder; the preset's if it is not given.
        kernel_size: of the text encoder and the duration predictor.
        dropout: of the text encoder.
        posterior_layers: of the posterior encoder.
        flow: ``pre_conv2`` with transformer blocks (VITS2), ``plain`` without (VITS).
        n_flows: couplings of the flow.
        flow_layers: of each coupling's WaveNet.
        speaker_in_text_encoder: whether the text encoder knows the speaker (VITS2, section 2.4).
        condition_decoder: whether the decoder does; the public multi-band decoders do not.
        duration_predictor: ``deterministic``, or ``stochastic`` as in VITS.
        duration_channels: width of the deterministic predictor.
        duration_dropout: of the duration predictor.
        decoder: what the decoder ends in; the preset's if it is not given.
        bank: filter bank of ``multi_band_istft``: ``public`` for public checkpoints, ``exact`` for new training.
        resblock: kind of the decoder's residual blocks.
        resblock_kernel_sizes: one block each, averaged.
        resblock_dilations: of each block's convolutions.
        upsample_rates: strides of the decoder; the preset's if they are not given.
        upsample_kernel_sizes: of its transposed convolutions; the preset's if they are not given.
        upsample_initial_channels: its width, halved at each stride; the preset's if it is not given.
        istft_n_fft: size of its inverse transform.
        istft_hop_length: of its inverse transform.
        subbands: of ``multi_band_istft`` and ``multi_stream_istft``.
        segment_frames: what is decoded of each utterance in training.
        alignment: ``searched`` in training, as published, or ``given`` by the data, which needs far fewer steps.
        search_noise: whether the alignment search is noisy in the first 5000 steps (VITS2, section 2.2).
        search_prior_steps: steps over which a prior fades that holds the search near the diagonal; none as published.
            With little data or few steps no usable alignment is found without one.
        discriminator_periods: one discriminator of waveforms each, besides the one over samples.
        discriminator_channels: of their widest layers.

    Raises:
        ConfigError: the decoder makes another number of samples than ``hop_length``, or sizes do not go together.
    """

    parameter_group_names = ("duration_discriminator", "discriminator", "generator")
    trains_on_waveform = True
    needs_durations = True
    default_alignment = "searched"
    speaker_tables = ("generator.emb_g.weight",)
    training_arguments = (
        "preset",
        "dropout",
        "duration_dropout",
        "segment_frames",
        "alignment",
        "search_noise",
        "search_prior_steps",
    )

    @classmethod
    def complete_arguments(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """See `SynthesisModel`."""
        return complete(super().complete_arguments(arguments))

    def __init__(
        self,
        n_mels: int,
        n_tokens: int,
        n_speakers: int,
        hop_length: int,
        preset: PresetName = "mb_istft_vits2",
        inter_channels: Size = 192,
        hidden_channels: Size | None = None,
        filter_channels: Size = 768,
        speaker_channels: Size = 192,
        n_heads: Size = 2,
        n_layers: Depth | None = None,
        kernel_size: Size = 3,
        dropout: Dropout = 0.1,
        posterior_layers: Depth = 16,
        flow: FlowKind = "pre_conv2",
        n_flows: Depth = 4,
        flow_layers: Depth = 4,
        speaker_in_text_encoder: bool = True,
        condition_decoder: bool = False,
        duration_predictor: Literal["deterministic", "stochastic"] = "deterministic",
        duration_channels: Size = 256,
        duration_dropout: Dropout = 0.5,
        decoder: DecoderKind | None = None,
        bank: Bank = "exact",
        resblock: Literal["1", "2"] = "1",
        resblock_kernel_sizes: Positives = (3, 7, 11),
        resblock_dilations: Annotated[tuple[Positives, ...], Field(min_length=1)] = ((1, 3, 5), (1, 3, 5), (1, 3, 5)),
        upsample_rates: Positives | None = None,
        upsample_kernel_sizes: Positives | None = None,
        upsample_initial_channels: Size | None = None,
        istft_n_fft: Size = 16,
        istft_hop_length: Size = 4,
        subbands: Size = 4,
        segment_frames: Size = 32,
        alignment: Alignment = "searched",
        search_noise: bool = True,
        search_prior_steps: NonNegativeInt = 0,
        discriminator_periods: Positives = (2, 3, 5, 7, 11),
        discriminator_channels: Size = 1024,
    ) -> None:
        super().__init__()
        self.inter_channels, self.hop_length = inter_channels, hop_length
        chosen = preset_with(
            preset,
            decoder=decoder,
            hidden_channels=hidden_channels,
            n_layers=n_layers,
            upsample_rates=upsample_rates,
            upsample_kernel_sizes=upsample_kernel_sizes,
            upsample_initial_channels=upsample_initial_channels,
        )
        hidden, width = chosen.hidden_channels, speaker_channels if n_speakers > 1 else 0
        sizes = DecoderSizes(
            in_channels=inter_channels,
            resblock=resblock,
            resblock_kernel_sizes=resblock_kernel_sizes,
            resblock_dilations=resblock_dilations,
            upsample_rates=chosen.upsample_rates,
            upsample_kernel_sizes=chosen.upsample_kernel_sizes,
            upsample_initial_channels=chosen.upsample_initial_channels,
            n_fft=istft_n_fft,
            istft_hop_length=istft_hop_length,
            subbands=subbands,
            bank=bank,
            speaker_channels=width if condition_decoder else 0,
        )
        check(sizes, chosen.decoder, hop_length, hidden, n_heads)
        if kernel_size % 2 == 0:
            raise ConfigError(f"model: kernel_size must be odd, found {kernel_size}")
        if duration_predictor == "stochastic":
            durations: DurationPredictor | StochasticDurationPredictor = StochasticDurationPredictor(
                hidden, kernel_size, duration_dropout, speaker_channels=width
            )
        else:
            durations = DurationPredictor(hidden, duration_channels, kernel_size, duration_dropout, width)
        self.generator = Generator(
            enc_p=TextEncoder(
                n_tokens,
                inter_channels,
                hidden,
                filter_channels,
                n_heads,
                chosen.n_layers,
                kernel_size,
                dropout,
                width if speaker_in_text_encoder else 0,
            ),
            dec=DECODERS[chosen.decoder](sizes),
            enc_q=PosteriorEncoder(n_mels, inter_channels, hidden, n_layers=posterior_layers, speaker_channels=width),
            flow=Flow(
                inter_channels,
                hidden,
                n_layers=flow_layers,
                n_flows=n_flows,
                speaker_channels=width,
                kind=flow,
            ),
            dp=durations,
            emb_g=self.make_speaker_table(n_speakers, width) if width else None,
            segment_frames=segment_frames,
            hop_length=hop_length,
            search_noise=search_noise,
            search_prior_steps=search_prior_steps,
            alignment=alignment,
        )
        self.discriminator = Discriminators(discriminator_periods, discriminator_channels)
        self.duration_discriminator = DurationDiscriminator(hidden, hidden)

    def make_speaker_table(self, n_speakers: int, width: int) -> nn.Embedding:
        """What makes ``speaker_id`` (B,) the embedding (B, width) that conditions all parts.

        A subclass with a conditioning of its own overrides this: rows that pass a network, or more than a row. It is
        called within the constructor. `init_from` takes a checkpoint of `VITS2` for it; what that lacks starts as the
        subclass makes it.
        """
        return nn.Embedding(n_speakers, width)

    def parameter_groups(self) -> dict[str, nn.Module]:
        """See `SynthesisModel`."""
        return {
            "duration_discriminator": self.duration_discriminator,
            "discriminator": self.discriminator,
            "generator": self.generator,
        }

    def set_step(self, step: int, steps_before: int = 0) -> None:
        """Tell how far training is; call it before each training pass.

        Args:
            step: of this training, for the prior of the alignment search.
            steps_before: for which the weights it began with had been trained; the noise of the search, which fades
                once in a model's life, counts them.
        """
        self.generator.step, self.generator.steps_before = step, steps_before

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
        """The generator's training pass, the same as ``model.generator(**batch)``.

        Args:
            tokens (Tensor): int64, (B, L).
            tokens_length (Tensor): int64, (B,).
            spectrogram (Tensor): log-mel, (B, F, T).
            spectrogram_length (Tensor): int64, (B,).
            waveform (Tensor): (B, S); frame t of the spectrogram begins at sample ``t * hop_length``.
            speaker_id (Tensor): int64, (B,); not needed for a single voice.
            durations (Tensor): frames of each token, int64, (B, L); only of given alignments.
            batch: not used.

        Returns:
            dict: ``waveform_predicted`` and ``waveform_segment`` (B, segment_frames * hop_length), zeros after the end
            of utterances shorter than a segment; ``subbands_predicted`` (B, M, S' / M) of the multi-band decoder only;
            ``segment_start`` (B,) in frames; ``hidden`` (B, D, L), the input of the duration discriminator;
            ``tokens_mask`` bool (B, 1, L) and ``frames_mask`` bool (B, 1, T); ``durations`` int64 (B, L) and
            ``alignment_hard`` (B, T, L) from the search; ``log_durations_target`` and ``log_durations_predicted``
            (B, L), natural log, 0 in the padding; ``durations_nll`` (B,), summed over tokens, of the stochastic
            predictor only (its loss; the log durations then are for the duration discriminator alone); for the KL
            ``prior_latent``, ``prior_mean``, ``prior_log_scale``, ``posterior_log_scale`` (B, C, T), log of deviations.
        """
        outputs: dict[str, Tensor] = self.generator(
            tokens=tokens,
            tokens_length=tokens_length,
            spectrogram=spectrogram,
            spectrogram_length=spectrogram_length,
            waveform=waveform,
            speaker_id=speaker_id,
            durations=durations,
        )
        return outputs

    def synthesize(
        self,
        tokens: Tensor,
        tokens_length: Tensor,
        speaker_id: Tensor | None = None,
        speed: Factor = 1.0,
        pitch: Factor = 1.0,
        energy: Factor = 1.0,
        noise: Factor = 0.667,
        duration_noise: Factor = 0.8,
        speaker_embedding: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Speak.

        Args:
            tokens (Tensor): int64, (B, L).
            tokens_length (Tensor): int64, (B,).
            speaker_id (Tensor): int64, (B,); not needed for a single voice.
            speed: 2 is twice as fast.
            pitch: this model has no control of it; only 1.
            energy: this model has no control of it; only 1.
            noise: deviation of the latent as a fraction of the prior's; 0 always says the same. Or drawn already, times
                this fraction, (B, inter_channels, any number of frames): see `draws`.
            duration_noise: the same for the durations of the stochastic predictor; drawn, (B, 2, any number of tokens).
            speaker_embedding (Tensor): a voice between speakers instead of ``speaker_id``, (B, G); see `mix_speakers`.

        Returns:
            dict: ``waveform`` (B, S), 0 after each one's end; ``waveform_length`` (B,); ``durations`` in frames (B, L).

        Raises:
            ConfigError: a control that the model lacks, a speed that is not positive, a speaker that it does not know.
        """
        for name, value in (("pitch", pitch), ("energy", energy)):
            if value != 1.0:
                raise ConfigError(f"{name}: VITS2 has no control of it; found {value}, leave it at 1")
        refuse_unless_positive("speed", speed)
        speaker = self._speaker(speaker_id, speaker_embedding)
        return synthesis.synthesize(self.generator, tokens, tokens_length, speaker, speed, noise, duration_noise)

    def exported_controls(self) -> dict[str, Tensor]:
        controls = {"speed": torch.tensor(1.0), "noise": torch.randn(1, self.inter_channels, 50) * 0.667}
        if isinstance(self.generator.dp, StochasticDurationPredictor):
            controls["duration_noise"] = torch.randn(1, 2, 30) * 0.8
        return controls

    def voice_conversion(
        self,
        spectrogram: Tensor,
        spectrogram_length: Tensor,
        source_id: Tensor,
        target_id: Tensor | None = None,
        noise: float = 1.0,
        target_embedding: Tensor | None = None,
    ) -> dict[str, Tensor]:
        source, target = self._speaker(source_id, None), self._speaker(target_id, target_embedding)
        return synthesis.convert(self.generator, spectrogram, spectrogram_length, source, target, noise)

    def mix_speakers(self, weights: dict[int, float]) -> Tensor:
        """A voice between known ones: speaker id -> weight, normed to sum to 1; the embedding, (1, G)."""
        ids = torch.tensor(list(weights), device=self._speakers().weight.device)
        fractions = torch.tensor(list(weights.values()), device=ids.device)
        if not weights or not float(fractions.sum()) > 0:
            raise ConfigError(f"weights of speakers: expected a positive sum, found {weights}")
        rows = self._speaker(ids, None)
        assert rows is not None
        return (fractions / fractions.sum()).unsqueeze(0) @ rows.squeeze(-1).detach()

    def _speakers(self) -> nn.Embedding:
        if self.generator.emb_g is None:
            raise ConfigError("this model has a single voice, so there are no speakers to choose from")
        return self.generator.emb_g

    def _speaker(self, speaker_id: Tensor | None, embedding: Tensor | None) -> Tensor | None:
        """The embedding, (B, G, 1), of ids or of a mixture; None of a single voice."""
        if self.generator.emb_g is None:
            return None
        if embedding is not None:
            return embedding.unsqueeze(-1)
        known = self._speakers().num_embeddings
        if speaker_id is None:
            raise ConfigError(f"speaker_id: needed, the model knows {known} speakers")
        outside = (speaker_id < 0) | (speaker_id >= known)
        if not torch.compiler.is_exporting() and bool(outside.any()):
            raise ConfigError(f"speaker_id: the model knows 0 to {known - 1}, found {speaker_id.tolist()}")
        return self.generator.speaker(speaker_id)

    def prepare_for_inference(self, dtype: torch.dtype = torch.float32) -> "VITS2":
        """Fold the weight norms; training ends, and no checkpoint of training can be loaded any more.

        Args:
            dtype: of the flow's couplings and the decoder's trunk; bfloat16 is faster where the device computes in it.

        Returns:
            VITS2: the model itself.
        """
        self.eval().requires_grad_(False)
        fold_weight_norm(self.generator)
        self.generator.flow.to(dtype)
        self.generator.dec.convert(dtype)
        return self
