"""The international phonetic alphabet with stress and punctuation, through espeak-ng."""

import re
from typing import Literal

from hw_base.errors import ConfigError
from hw_base.registry import TEXT_ENCODERS
from hw_tts.text.cleaning import collapse
from hw_tts.text.languages import clean
from hw_tts.text.spoken import SpokenFrontEnd

# The tables of public checkpoints, in the order of their ids from 1 (id 0 is the padding). The apostrophe stands twice
# in the last group; its last place is the one that counts, as it is in those programs.
_PUNCTUATION = ';:,.!?¡¿—…"«»\u201c\u201d '
_LATIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_JAMO = "ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊㅋㅌㅍㅎㄲㄸㅃㅆㅉㅏㅓㅗㅜㅡㅣㅐㅔ"
_VOWELS_AND_CONSONANTS = (
    "\u0251\u0250\u0252\u00e6\u0253\u0299\u03b2\u0254\u0255\u00e7\u0257\u0256\u00f0\u02a4\u0259\u0258\u025a\u025b\u025c"
    "\u025d\u025e\u025f\u0284\u0261\u0260\u0262\u029b\u0266\u0267\u0127\u0265\u029c\u0268\u026a\u029d\u026d\u026c\u026b"
    "\u026e\u029f\u0271\u026f\u0270\u014b\u0273\u0272\u0274\u00f8\u0275\u0278\u03b8\u0153\u0276\u0298\u0279\u027a\u027e"
    "\u027b\u0280\u0281\u027d\u0282\u0283\u0288\u02a7\u0289\u028a\u028b\u2c71\u028c\u0263\u0264\u028d\u03c7\u028e\u028f"
    "\u0291\u0290\u0292\u0294\u02a1\u0295\u02a2\u01c0\u01c1\u01c2\u01c3"
)
_MARKS = (
    "\u02c8\u02cc\u02d0\u02d1\u02bc\u02b4\u02b0\u02b1\u02b2\u02b7\u02e0\u02e4\u02de\u2193\u2191\u2192\u2197\u2198'\u0329'"
    "\u1d7b"
)
TABLES = {
    "learned": "",
    "vits": _PUNCTUATION + _LATIN + _VOWELS_AND_CONSONANTS + _MARKS,
    "mb_istft_vits2": _PUNCTUATION + _LATIN + _JAMO + _VOWELS_AND_CONSONANTS + _MARKS,
}

# What ends a stretch that espeak-ng reads alone, and is kept as it stands, spaces included.
_BREAK = re.compile(rf"((?:\s*[{re.escape(_PUNCTUATION.strip())}])+\s*)")
# Where espeak-ng goes over to another language for a word: "(fr)".
_LANGUAGE = re.compile(r"\([a-z]{2,3}(?:-[a-z-]+)?\)")
# Stress, length, and the vowels and consonants of English that no spelling uses.
_PHONETIC = re.compile(
    "[\u02c8\u02cc\u02d0\u026a\u0259\u025b\u0254\u0251\u0279\u028c\u0250\u025a\u025c\u027e\u0283\u028a]"
)


@TEXT_ENCODERS.register()
class IPAFrontEnd(SpokenFrontEnd):
    """One symbol for each character of the phonetic writing, stress marks, spaces and punctuation included.

    The text is cleaned, cut at punctuation, and each stretch read by espeak-ng alone, as the lists of public recipes
    were made. A text that is already phonetic, as in those lists, is taken as it stands.

    Args:
        accent: a voice of espeak-ng as in `hw_base.synthetic.espeak.check_voices`.
        table: ``learned``, or a table of public checkpoints: ``vits`` (178 ids, VITS and related programs) or
            ``mb_istft_vits2`` (205 ids); or the symbols of the ids 1, 2, ... one by one.
        add_blank: id 0 before, between and after the symbols.

    Raises:
        ConfigError: unknown accent, or an empty list of symbols.
        MissingPackageError: espeakng-loader is not installed; only once a text is to be read.
    """

    writes_text = False

    def __init__(
        self,
        accent: str = "en-us",
        table: Literal["learned", "vits", "mb_istft_vits2"] | list[str] = "learned",
        add_blank: bool = False,
    ) -> None:
        if not table:
            raise ConfigError('table: an empty list of symbols; "learned" learns them from the training texts')
        super().__init__(accent, list(TABLES[table]) if isinstance(table, str) else table, add_blank)

    def normalize(self, text: str) -> str:
        """The cleaned text, or the phonetic writing that was given."""
        return collapse(text) if self._is_phonetic(text) else clean(text, self.language)

    def _is_phonetic(self, text: str) -> bool:
        return _PHONETIC.search(text) is not None

    def _read(self, text: str) -> list[str]:
        if self._is_phonetic(text):
            return list(text)
        pieces = _BREAK.split(text)
        spoken, breaks = pieces[::2], pieces[1::2]
        phonetic = [collapse(_LANGUAGE.sub("", one)) for one in self._speaker.ipa(spoken, self.accent)]
        if not any(phonetic):
            return []
        return list("".join(a + b for a, b in zip(phonetic, [*breaks, ""], strict=True)).strip())
