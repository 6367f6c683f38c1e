"""ARPAbet phones from a pronouncing dictionary in the format of CMUdict."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch

from hw_base.config.schema import PathText
from hw_base.errors import CheckpointError, ConfigError, DataError
from hw_base.registry import TEXT_ENCODERS
from hw_base.texts.files import read_lines
from hw_tts.text.base import BaseTextFrontEnd, shortened
from hw_tts.text.cleaning import clean

_VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
_CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N"),
    *("NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
)
PHONES = (*(vowel + stress for vowel in _VOWELS for stress in "012"), *_CONSONANTS)
# Silences of aligners: between words, and where a word was not understood.
PAUSES = ("sil", "sp", "spn")
PUNCTUATION = ("!", "'", "(", ")", ",", "-", ".", ":", ";", "?")
SPACE = " "

_LETTERS = dict(
    zip(
        "abcdefghijklmnopqrstuvwxyz",
        (
            *("EY1", "B IY1", "S IY1", "D IY1", "IY1", "EH1 F", "JH IY1", "EY1 CH", "AY1", "JH EY1", "K EY1", "EH1 L"),
            *("EH1 M", "EH1 N", "OW1", "P IY1", "K Y UW1", "AA1 R", "EH1 S", "T IY1", "Y UW1", "V IY1"),
            *("D AH1 B AH0 L Y UW0", "EH1 K S", "W AY1", "Z IY1"),
        ),
        strict=True,
    )
)
_BRACES = re.compile(r"\{([^{}]*)\}")
_TOKEN = re.compile(r"[^\W\d_](?:(?:[^\W\d_]|')*[^\W\d_])?'?|\S|\s+")
_MAX_NAMED = 10


@TEXT_ENCODERS.register()
class ArpabetFrontEnd(BaseTextFrontEnd):
    """Phones of the words of the cleaned text, with stress, and its punctuation; a space between words on request.

    ``{B R AE1 K}`` in a text stands for these phones, and for `PAUSES`; so do texts that consist of it alone, as the
    lists of public recipes have them. Of several pronunciations of a word the first is taken. The words travel in the
    checkpoint.

    Args:
        lexicon: file with a word and its phones a line, like CMUdict: ``BREAK  B R EY1 K``; lines that begin with
            ``;;;`` are comments, ``READ(1)`` is a second pronunciation. None knows no word.
        unknown_words: ``spell`` names the letters of a word that the lexicon lacks, ``skip`` leaves it out and lists
            it in `unknown`, ``fail`` refuses the text.
        word_boundaries: a space is a symbol.
        add_blank: id 0 before, between and after the symbols.

    Raises:
        ConfigError: the lexicon cannot be read, or a line of it is malformed; once the first word is looked up.
    """

    writes_text = False

    separator = " "

    def __init__(
        self,
        lexicon: PathText | None = None,
        unknown_words: Literal["spell", "skip", "fail"] = "spell",
        word_boundaries: bool = False,
        add_blank: bool = False,
    ) -> None:
        spaces = (SPACE,) if word_boundaries else ()
        super().__init__((*PAUSES, *spaces, *PUNCTUATION, *PHONES), add_blank)
        self.unknown_words = unknown_words
        self.word_boundaries = word_boundaries
        self.lexicon = lexicon
        # None until the first word is looked up: a checkpoint holds the words and needs no file.
        self._known: dict[str, str] | None = None

    @property
    def words(self) -> dict[str, str]:
        """The phones of every word, separated by spaces.

        Raises:
            ConfigError: the lexicon cannot be read, or a line of it is malformed.
        """
        if self._known is None:
            self._known = {} if self.lexicon is None else read_lexicon(self.lexicon)
        return self._known

    def state_dict(self) -> dict[str, Any]:
        """The table, and the lexicon's bytes as (N,) uint8."""
        lines = "".join(f"{word} {phones}\n" for word, phones in self.words.items())
        # An empty buffer makes no tensor.
        content = torch.frombuffer(bytearray(lines.encode() or b"\n"), dtype=torch.uint8)
        return {**super().state_dict(), "lexicon": content}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the table and the lexicon of a checkpoint."""
        content = state.get("lexicon")
        if not isinstance(content, torch.Tensor) or content.dtype != torch.uint8:
            raise CheckpointError(f"the text front end's state has no lexicon; found {sorted(state)}")
        lines = content.cpu().numpy().tobytes().decode("utf-8", "replace").split("\n")
        super().load_state_dict(state)
        self._known = dict(tuple(line.split(" ", 1)) for line in lines if " " in line)  # type: ignore[misc]

    def symbols(self, text: str) -> list[str]:
        """Phones, pauses and punctuation of a text.

        Raises:
            DataError: a word is in no lexicon, under ``unknown_words="fail"``, or has letters that English
                cannot spell.
        """
        return self._read(text)[0]

    def unknown(self, text: str) -> list[str]:
        """What is left out of a text: words without a pronunciation, and in braces what is no phone."""
        symbols, words = self._read(text)
        return words + self.unknown_symbols(symbols)

    def _read(self, text: str) -> tuple[list[str], list[str]]:
        symbols: list[str] = []
        unknown: list[str] = []
        for i, piece in enumerate(_BRACES.split(text)):
            if i % 2:
                symbols += piece.split()
                continue
            for token in _TOKEN.findall(_spaced(piece)):
                if token[0].isalpha():
                    symbols += self._word(token, text, unknown)
                elif token in PUNCTUATION:
                    symbols.append(token)
                elif self.word_boundaries and token.isspace():
                    symbols.append(SPACE)
        return _trimmed(symbols), unknown

    def _word(self, word: str, text: str, unknown: list[str]) -> list[str]:
        for form in (word, word.strip("'")):
            if form in self.words:
                return self.words[form].split()
        stem, _, ending = word.rpartition("'")
        if ending == "s" and stem in self.words:
            phones = self.words[stem].split()
            return phones + _possessive(phones[-1])
        if self.unknown_words == "fail":
            raise DataError(f"the lexicon has no word {word!r}, found in {shortened(text)!r}; write it as {{phones}}")
        if self.unknown_words == "skip":
            unknown.append(word)
            return []
        if not all(letter in _LETTERS for letter in word.replace("'", "")):
            raise DataError(
                f"the lexicon has no word {word!r}, found in {shortened(text)!r}, and English cannot spell it; write "
                "it as {phones}"
            )
        return [phone for letter in word if letter != "'" for phone in _LETTERS[letter].split()]


@lru_cache(maxsize=4)
def read_lexicon(path: str) -> dict[str, str]:
    """The first pronunciation of every word, in lower case.

    Raises:
        ConfigError: the file cannot be read, or lines in it are no words with phones.
    """
    file = Path(path)
    try:
        lines = read_lines(file, errors="replace")  # the CMU dictionary has a few words in Latin-1
    except DataError as error:
        raise ConfigError(f"lexicon: {error}") from error
    words: dict[str, str] = {}
    faults = []
    known = set(PHONES)
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(";;;"):
            continue
        word, *phones = line.split("#")[0].split() if not line.startswith("#") else line.split()
        if not phones or not known.issuperset(phones):
            faults.append(f"lexicon: {file}, line {number}: expected a word and its phones, found {line[:60]!r}")
        else:
            words.setdefault(re.sub(r"\(\d+\)$", "", word).lower(), " ".join(phones))
    if faults:
        raise ConfigError("\n".join(faults[:_MAX_NAMED]))
    return words


def _spaced(piece: str) -> str:
    """The cleaned piece with the space that it had at either end."""
    return f"{' ' * piece[:1].isspace()}{clean(piece)}{' ' * piece[-1:].isspace()}"


def _trimmed(symbols: list[str]) -> list[str]:
    """Without spaces at the ends, or next to each other."""
    kept: list[str] = []
    for symbol in symbols:
        if symbol != SPACE or (kept and kept[-1] != SPACE):
            kept.append(symbol)
    return kept[:-1] if kept[-1:] == [SPACE] else kept


def _possessive(last: str) -> list[str]:
    if last in ("S", "Z", "SH", "ZH", "CH", "JH"):
        return ["IH0", "Z"]
    return ["S"] if last in ("P", "T", "K", "F", "TH") else ["Z"]
