import io
import zipfile

import numpy as np
import pytest

from hw_base.errors import ConfigError, DataError
from hw_base.registry import TEXT_ENCODERS
from hw_tts.text.characters import ENGLISH, CharacterFrontEnd


def test_symbols_are_the_characters_of_the_cleaned_text():
    front_end = TEXT_ENCODERS["CharacterFrontEnd"]()
    assert front_end.symbols('Mr. O\'Neil said: "Go [now]!"') == list("mister o'neil said: go now!")
    assert front_end.decode(front_end.encode("Is it -- (so)?")) == "is it -- (so)?"
    assert len(front_end) == 1 + len(ENGLISH) == 38


def test_what_has_a_sound_and_no_symbol_is_listed():
    assert CharacterFrontEnd().unknown('"[a]" ж b 漢 $ ж') == ["ж", "漢", "$", "ж"]
    assert CharacterFrontEnd(alphabet="ab ").unknown("a, c") == ["c"]


def test_nothing_to_say():
    for text in ("", "  ", '"[]"', "漢字"):
        with pytest.raises(DataError, match="nothing to say"):
            CharacterFrontEnd().encode(text)


@pytest.mark.parametrize(("alphabet", "message"), [("aba", "more than once"), ("aB", "cannot occur"), ("a1", "cannot")])
def test_impossible_alphabets_are_refused(alphabet, message):
    with pytest.raises(ConfigError, match=message):
        CharacterFrontEnd(alphabet=alphabet)


def test_ten_thousand_characters_have_ten_thousand_symbols():
    text = ("she sells sea shells " * 500)[:9_999] + "."
    assert len(CharacterFrontEnd().encode(text)) == 10_000
    assert len(CharacterFrontEnd(add_blank=True).encode(text)) == 20_001


def fitting(folder, rows):
    """How many of these rows have as many published durations as the text has symbols, of how many."""
    texts = [line.split("|")[-1] for line in (folder / "metadata_full.csv").read_text(encoding="utf-8").split("\n")]
    front_end = CharacterFrontEnd()
    with zipfile.ZipFile(folder / "alignments.zip") as archive:
        lengths = [len(np.load(io.BytesIO(archive.read(f"alignments/{row}.npy")))) for row in rows]
    return sum(n == len(front_end.symbols(texts[row])) for n, row in zip(lengths, rows, strict=True))


def test_published_durations_of_ljspeech_fit(real_data):
    rows = range(0, 13_100, 61)
    assert fitting(real_data / "LJSpeech-1.1", rows) == len(rows)


@pytest.mark.slow
def test_all_published_durations_of_ljspeech_fit(real_data):
    assert fitting(real_data / "LJSpeech-1.1", range(13_100)) == 13_100
