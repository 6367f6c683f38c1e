"""What every recognizer's network must have."""

from typing import Any

from torch import Tensor

from hw_base.nn.model import BaseModel


class CTCModel(BaseModel):
    """A network that gives each frame a distribution over tokens, blank at 0; trained with CTC.

    Constructors are given ``n_mels`` (F) and ``n_tokens`` (V) at run time, if they ask for them.
    """

    required = ("forward", "output_lengths")

    @property
    def n_encoded(self) -> int:
        """Width of ``encoded``; a model that gives it can be the encoder of a `Transducer`.

        Raises:
            NotImplementedError: it does not give it.
        """
        raise NotImplementedError

    def output_lengths(self, length: Tensor) -> Tensor:
        """Frames of ``log_probs`` for a number of frames of the spectrogram.

        Args:
            length (Tensor): frames of spectrograms, int64, any shape.

        Returns:
            Tensor: frames of the output, int64, of the same shape; what `forward` gives as ``log_probs_length``.
        """
        raise NotImplementedError

    def forward(self, *args: Any, **batch: Any) -> dict[str, Tensor]:
        """Called as ``model(**batch)``; a subclass names the keys it uses and takes the others as ``**batch``.

        Args:
            args: not used.
            batch: ``spectrogram`` (B, F, T), float32; ``spectrogram_length`` (B,), int64.

        Returns:
            dict: ``log_probs`` (B, T', V), natural log, normalized over V; ``log_probs_length`` (B,), int64; and, of
            one that can be the encoder of a `Transducer`, ``encoded`` (B, T', n_encoded), what the last layer sees.
        """
        raise NotImplementedError
