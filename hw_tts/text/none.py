"""The text encoder of tasks without text."""

from collections.abc import Sequence
from typing import Any

from hw_base.registry import TEXT_ENCODERS
from hw_base.text import BaseTextEncoder


@TEXT_ENCODERS.register()
class NoText(BaseTextEncoder):
    """For tasks without text: a vocabulary of the reserved id alone."""

    def __init__(self) -> None:
        pass

    def __len__(self) -> int:
        return 1

    def normalize(self, text: str) -> str:
        """The text as it is."""
        return text

    def encode(self, text: str) -> list[int]:
        """Nothing."""
        return []

    def decode(self, tokens: Sequence[int]) -> str:
        """Nothing."""
        return ""

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to become."""
