"""What decoders of transducers have in common."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from hw_asr.decoders.base import BaseDecoder, Hypothesis
from hw_asr.decoders.checks import first_wrong
from hw_asr.models.transducer import Transducer
from hw_base.errors import ConfigError, DataError
from hw_base.nn.model import BaseModel


class TransducerDecoder(BaseDecoder):
    """Reads the states of a transducer's encoder; the model it is bound to says what follows which tokens."""

    reads: ClassVar[str] = "encoder_states"
    _model: Transducer | None = None

    def bind(self, model: BaseModel) -> None:
        """See `BaseDecoder`.

        Raises:
            ConfigError: the model is no transducer.
        """
        if not isinstance(model, Transducer):
            raise ConfigError(f"{type(self).__name__} decodes a Transducer, found a {type(model).__name__}")
        self._model = model

    @property
    def model(self) -> Transducer:
        """Whose encoder gave the states."""
        if self._model is None:
            raise ConfigError(f"{type(self).__name__}: call bind(model) first")
        return self._model

    @torch.no_grad()
    def __call__(self, log_probs: Tensor, log_probs_length: Tensor) -> list[list[Hypothesis]]:
        """Decode a batch.

        Args:
            log_probs (Tensor): ``encoder_states``, (B, T, J).
            log_probs_length (Tensor): valid frames of each utterance, (B,), int64.

        Returns:
            See `BaseDecoder`.

        Raises:
            DataError: states that are not finite, shapes that do not fit, or more frames claimed than there are.
        """
        weight = self.model.joiner.weight
        states, length = log_probs.to(weight.device, torch.float32), log_probs_length.to(weight.device)
        width = weight.shape[1]
        if states.dim() != 3 or states.shape[2] != width or length.shape != states.shape[:1]:
            found = f"{tuple(log_probs.shape)} with lengths {tuple(log_probs_length.shape)}"
            raise DataError(f"decoder: expected encoder_states (B, T, {width}) with lengths (B,), found {found}")
        if not len(states):
            return []
        place = first_wrong(~torch.isfinite(states).all(-1), length)
        if place is not None:
            row, frame = place
            raise DataError(
                f"decoder: utterance {row} of the batch, frame {frame}: encoder_states holds NaN or infinity; look for "
                "them in the model's weights and in the features"
            )
        model = self.model
        training = model.training
        model.eval()
        try:
            with torch.autocast(states.device.type, enabled=False):
                return self.search(states, length)
        finally:
            model.train(training)

    @abstractmethod
    def search(self, states: Tensor, length: Tensor) -> list[list[Hypothesis]]:
        """`__call__` with checked arguments, without gradients, dropout and autocast.

        Args:
            states (Tensor): (B, T, J), float32.
            length (Tensor): (B,), int64, on the same device.
        """
