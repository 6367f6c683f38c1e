"""Graves 2012, "Sequence Transduction with Recurrent Neural Networks" (arXiv 1211.3711)."""

from typing import Annotated, Any

import torch
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from hw_asr.models.base import CTCModel
from hw_asr.models.transducer.predictors import BasePredictor, State
from hw_base.config.resolve import build, nested_errors
from hw_base.config.schema import MODEL, Component, Of, Size
from hw_base.errors import ConfigError
from hw_base.registry import MODELS, PREDICTORS, lacking

PREDICTOR = Of(PREDICTORS, runtime=("n_tokens",))


def _known(component: Component, of: Of) -> Component:
    errors = nested_errors(component, of.registry, of.runtime)
    if errors:
        text = "; ".join(f"{where}: {message}" for where, message in errors.items())
        raise PydanticCustomError("component", "{text}", {"text": text})
    return component


def _known_encoder(component: Component) -> Component:
    lack = lacking(MODELS[component.type], CTCModel) if component.type in MODELS else None
    if component.type == "Transducer":
        lack = "a Transducer cannot be the encoder of another"
    if lack is not None:
        raise PydanticCustomError("encoder", "{text}", {"text": f"type: {lack}"})
    return _known(component, MODEL)


def _known_predictor(component: Component) -> Component:
    return _known(component, PREDICTOR)


@MODELS.register()
class Transducer(CTCModel):
    """RNN-T: whether a frame emits a token or a blank depends on the audio and on the tokens before.

    The encoder is any CTC model and keeps its head: its posteriors are trained beside the transducer (with the joint
    loss the encoder learns faster), and watchers, windows of long recordings and CTC decoders use them. Decoders of
    transducers read ``encoder_states`` instead, see `join`.

    Args:
        n_mels: feature bins of the input.
        n_tokens: vocabulary, the blank included.
        encoder: a CTC model, ``{"type": "Conformer", "args": {...}}``.
        predictor: ``{"type": "StatelessPredictor", "args": {...}}`` or ``LSTMPredictor``.
        joiner_size: J, width at which the states of both meet.

    Raises:
        ConfigError: a part refuses its arguments, or the encoder does not give its states.
    """

    def __init__(
        self,
        n_mels: int,
        n_tokens: int,
        encoder: Annotated[Component, MODEL, AfterValidator(_known_encoder)],
        predictor: Annotated[Component, PREDICTOR, AfterValidator(_known_predictor)],
        joiner_size: Size = 256,
    ) -> None:
        super().__init__()
        self.n_tokens = n_tokens
        self._encoder_type = encoder.type
        self.encoder: CTCModel = build("encoder", encoder, MODELS, n_mels=n_mels, n_tokens=n_tokens)
        self.predictor: BasePredictor = build("predictor", predictor, PREDICTORS, n_tokens=n_tokens)
        try:
            n_encoded = self.encoder.n_encoded
        except NotImplementedError:
            raise ConfigError(f"encoder: {encoder.type} does not give its states: it has no n_encoded") from None
        self.encoder_projection = nn.Linear(n_encoded, joiner_size)
        # One bias before the sum is enough.
        self.predictor_projection = nn.Linear(self.predictor.n_outputs, joiner_size, bias=False)
        self.joiner = nn.Linear(joiner_size, n_tokens)
        # As the heads of CTC models: undecided at first.
        nn.init.normal_(self.joiner.weight, std=0.1 / joiner_size**0.5)
        nn.init.zeros_(self.joiner.bias)

    def forward(
        self, spectrogram: Tensor, spectrogram_length: Tensor, tokens: Tensor | None = None, **batch: Any
    ) -> dict[str, Tensor]:
        """Posteriors of the CTC head, and what `TransducerLoss` and decoders of transducers need.

        Args:
            spectrogram (Tensor): features, (B, F, T); what the padding holds has no influence.
            spectrogram_length (Tensor): valid frames, (B,), int64.
            tokens (Tensor): transcripts, (B, L), int64, on any device; None computes what needs none.
            batch: not used.

        Returns:
            encoder_states (Tensor): at the joiner's width, float32, (B, T', J); there are ``log_probs_length`` frames.
            predictor_states (Tensor): with transcripts, after 0 to L tokens, float32, (B, L + 1, J).
            joiner_weight, joiner_bias (Tensor): with transcripts; the joiner's last layer, (V, J) and (V,).
            log_probs, log_probs_length, ...: the encoder's other outputs.
        """
        outputs: dict[str, Tensor] = self.encoder(spectrogram=spectrogram, spectrogram_length=spectrogram_length)
        outputs["encoder_states"] = self.encoder_projection(outputs.pop("encoded")).float()
        if tokens is not None:
            # The loss names an utterance whose ids are of another vocabulary; an embedding would crash.
            tokens = tokens.clamp(0, self.n_tokens - 1).to(spectrogram.device)
            with torch.autocast(spectrogram.device.type, enabled=False):  # it costs little
                outputs["predictor_states"] = self.predictor_projection(self.predictor(tokens))
            outputs |= {"joiner_weight": self.joiner.weight, "joiner_bias": self.joiner.bias}
        return outputs

    def parts_by_type(self) -> dict[str, str]:
        """The encoder: ``init_from`` may hold a CTC model of its kind."""
        return {self._encoder_type: "encoder"}

    def output_lengths(self, length: Tensor) -> Tensor:
        """Frames of ``encoder_states`` and ``log_probs`` for frames of the spectrogram, (B,) -> (B,), int64."""
        return self.encoder.output_lengths(length)

    def predict(self, state: State) -> Tensor:
        """States of the predictor at the joiner's width, (N, J), float32, for a search."""
        states: Tensor = self.predictor_projection(self.predictor.output(state))
        return states

    def join(self, encoder_states: Tensor, predictor_states: Tensor) -> Tensor:
        """Log-probabilities of the next token or of none, blank 0.

        Args:
            encoder_states (Tensor): (..., J), of one frame each.
            predictor_states (Tensor): (..., J), of the tokens so far.

        Returns:
            Tensor: natural log, (..., V).
        """
        log_probs: Tensor = self.joiner(torch.tanh(encoder_states + predictor_states)).log_softmax(-1)
        return log_probs
