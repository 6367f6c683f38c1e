"""Texts are cleaned by the rules of their language, and letters of another script are refused by the word."""

import pytest

from hw_base.errors import DataError
from hw_tts.text.characters import RUSSIAN, CharacterFrontEnd
from hw_tts.text.espeak_phones import EspeakPhones
from hw_tts.text.ipa import IPAFrontEnd
from hw_tts.text.languages import clean, foreign_words, language_of

pytest.importorskip("num2words")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1/2", "one half"),
        ("½ a cup", "one half a cup"),
        ("1½ miles", "one and a half miles"),
        ("1 3/4", "one and three quarters"),
        ("2 and 2/3", "two and two thirds"),
        ("7/8 and 1/100", "seven eighths and one one hundredth"),
        ("¼ ¾ ⅓", "one quarter three quarters one third"),
        ("24/7", "twenty-four seven"),
        ("1/2/2020", "one two twenty twenty"),
        ("and/or", "and or"),
    ],
)
def test_english_fractions_are_read_as_fractions(written, read):
    assert clean(written, "en") == read


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("5", "пять"),
        ("Ёж и йод", "ёж и йод"),
        ("за\u0301мок", "замок"),
        ("21%", "двадцать один процент"),
        ("2 % и 5%", "два процента и пять процентов"),
        ("3,5 кг", "три целых пять десятых кг"),
        ("1/2", "одна вторая"),
        ("1½", "одна целая одна вторая"),
        ("2/3", "две третьих"),
        ("5-го мая, 3-я и 2-й", "пятого мая, третья и второй"),
        ("10:05", "десять ноль пять"),
        ("№ 7", "номер семь"),
        ("и т. д.", "и так далее"),
        ("1 000 000 ₽", "один миллион рублей"),
        ("$1", "один доллар"),
        ("-5", "минус пять"),
        ("007", "ноль ноль семь"),
        ("5м", "пять м"),
    ],
)
def test_russian_is_read_as_russian(written, read):
    assert clean(written, "ru") == read
    assert clean(read, "ru") == read


def test_a_russian_alphabet_holds_its_own_letters():
    front_end = CharacterFrontEnd(language="ru")
    assert "".join(front_end.symbols("Ёлка, 2 шт.")) == "ёлка, два шт."
    assert front_end.table == list(RUSSIAN)
    assert front_end.unknown("ёлка xyz") == ["x", "y", "z"]
    assert front_end.words_with("ёлка xyz", ["x"]) == ["xyz"]


def test_foreign_words_are_those_with_letters_of_another_script():
    assert foreign_words("say привет or γειά, café ﬁne № µ ½", "en") == ["привет", "γειά,", "µ"]
    assert foreign_words("скажи hello", "ru") == ["hello"]
    assert foreign_words("anything приве́т", "ja") == []
    assert [language_of(accent) for accent in ("en-gb-scotland", "en-us+f3", "ru")] == ["en", "en", "ru"]


@pytest.mark.parametrize(("kind", "accent"), [(EspeakPhones, "en-us"), (IPAFrontEnd, "en-us"), (IPAFrontEnd, "ru")])
def test_spoken_front_ends_refuse_another_script_by_the_word(kind, accent):
    pytest.importorskip("espeakng_loader")
    front_end = kind(accent)
    own, other = ("hello", "привет") if accent != "ru" else ("привет", "hello")
    with pytest.raises(DataError, match=f"letters: '{other}'"):
        front_end.symbols(f"{own} {other}")
    assert front_end.symbols(own)
    front_end.close()


def test_russian_numbers_are_not_read_in_english():
    pytest.importorskip("espeakng_loader")
    front_end = IPAFrontEnd("ru")
    assert front_end.normalize("5 ёлок") == "пять ёлок"
    assert front_end.symbols("5") == front_end.symbols("пять")
    front_end.close()
