"""What other tasks ask of a recognizer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor


class Recognizer(ABC):
    """Audio to text.

    Attributes:
        frame_seconds: from one frame of the posteriors to the next.
    """

    frame_seconds: float

    @abstractmethod
    def transcribe_batch(self, waveforms: Sequence[Tensor], sample_rate: int) -> list[str]:
        """What is said, in the normalized writing of `normalize`.

        Args:
            waveforms: each (S,), float, of any length; an empty one is silence.
            sample_rate: of all of them, in Hz.
        """

    @abstractmethod
    def posteriors(self, waveforms: Sequence[Tensor], sample_rate: int) -> tuple[Tensor, Tensor]:
        """Probabilities of the tokens in each frame, of one padded batch.

        Args:
            waveforms: each (S,), float.
            sample_rate: of all of them, in Hz.

        Returns:
            log_probs (Tensor): natural log, float32, blank at 0, (B, T, V).
            length (Tensor): valid frames, (B,), int64.
        """

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without blanks."""

    @abstractmethod
    def symbol(self, token_id: int) -> str:
        """How a token is spelled; empty for the blank."""

    @abstractmethod
    def normalize(self, text: str) -> str:
        """The writing in which a text can be compared with a transcript."""
