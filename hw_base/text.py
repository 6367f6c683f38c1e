"""Text to token ids and back: the contract that every text encoder of both tasks keeps."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar


class BaseTextEncoder(ABC):
    """A vocabulary with id 0 reserved (CTC blank, or padding).

    The state is plain containers and tensors and travels inside the checkpoint, which so needs no other file.

    Attributes:
        writes_text: `decode` gives back the normalized text; False where tokens are sounds.
        add_blank: id 0 stands between tokens, as some synthesizers want it.
    """

    writes_text: ClassVar[bool] = True
    add_blank: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """Size of the vocabulary, id 0 included."""

    @abstractmethod
    def normalize(self, text: str) -> str:
        """The form of ``text`` that is encoded and that hypotheses are compared with."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of a text, each in ``1 .. len(self) - 1``; what the vocabulary lacks is left out and counted."""

    @abstractmethod
    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids that contain neither blanks nor repeats to be collapsed."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything needed to rebuild this encoder, as tensors and plain containers."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the encoder that ``state`` was taken from."""

    def fit(self, texts: Iterable[str]) -> None:
        """Learn the vocabulary from the training transcripts; encoders with a fixed one have nothing to learn."""

    def unknown(self, text: str) -> list[str]:
        """The symbols of ``text`` that the vocabulary lacks, in order; empty where everything can be encoded."""
        return []
