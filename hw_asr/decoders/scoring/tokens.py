"""What a decoder must know of single tokens: how they are spelled and where words begin."""

from dataclasses import dataclass

import numpy as np

from hw_base.text import BaseTextEncoder

# SentencePiece's mark of a blank; it stands for the blank of character models too, because ARPA words have no blanks.
SPACE = "\u2581"
BLANK_NAME = "<blank>"

INSIDE, SEPARATOR, WORD_START = 0, 1, 2


@dataclass(frozen=True)
class Tokens:
    """The vocabulary as decoders see it.

    Attributes:
        names: spelling of each token within a text, blanks as ``SPACE``; its id where a spelling is not unique.
        kinds: (V,), int8: ``INSIDE`` a word, ``SEPARATOR`` of words (a blank alone) or ``WORD_START``.
    """

    names: list[str]
    kinds: np.ndarray

    @property
    def separator(self) -> int:
        """Id of the token that separates words, 0 if words begin without one."""
        found = np.flatnonzero(self.kinds == SEPARATOR)
        return int(found[0]) if len(found) else 0

    @property
    def has_words(self) -> bool:
        """Whether word boundaries can be seen in the tokens."""
        return bool((self.kinds != INSIDE).any())


def describe_tokens(text_encoder: BaseTextEncoder) -> Tokens:
    """Find out the spellings by decoding each token between two others, where no blank is stripped."""
    frame = next(i for i in range(1, len(text_encoder)) if text_encoder.decode([i]).strip())
    left = text_encoder.decode([frame])
    right = text_encoder.decode([frame, frame])[len(left) :]
    names = [BLANK_NAME]
    for token in range(1, len(text_encoder)):
        whole = text_encoder.decode([frame, token, frame])
        names.append(whole[len(left) : len(whole) - len(right)].replace(" ", SPACE))
    unique = {name for name in names if names.count(name) == 1 and name}
    names = [name if name in unique else f"<{i}>" for i, name in enumerate(names)]
    kinds = [SEPARATOR if name == SPACE else WORD_START if name.startswith(SPACE) else INSIDE for name in names]
    return Tokens(names, np.array(kinds, np.int8))
