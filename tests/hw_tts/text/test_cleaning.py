import random
import string
import sys

import pytest

from hw_base.errors import MissingPackageError
from hw_tts.text.cleaning import ABBREVIATIONS, SIGNS, clean, expand_abbreviations, expand_numbers, fold

pytest.importorskip("num2words")

WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"""
UNITS, TENS = WORDS.split()[:20], dict(zip(WORDS.split()[20:], range(20, 100, 10), strict=True))
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}


def number_of(words):
    """What a cardinal in words means."""
    total = group = 0
    for word in words.replace("-", " ").split():
        if word in SCALES:
            total, group = total + group * SCALES[word], 0
        elif word == "hundred":
            group *= 100
        else:
            group += TENS[word] if word in TENS else UNITS.index(word)
    return total + group


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("$3.50", "three dollars, fifty cents"),
        ("$1", "one dollar"),
        ("$1.01", "one dollar, one cent"),
        ("$0.01", "one cent"),
        ("$0", "zero dollars"),
        ("-$5", "minus five dollars"),
        ("£1 and £2", "one pound and two pounds"),
        ("£0.01", "one penny"),
        ("£5 million", "five million pounds"),
        ("€2.5 billion", "two point five billion euros"),
        ("$5m", "five million dollars"),
        ("$1,234.56", "one thousand two hundred thirty-four dollars, fifty-six cents"),
        ("$12.", "twelve dollars."),
        ("1st, 2nd, 23rd", "first, second, twenty-third"),
        ("the 111th and the 1,000th", "the one hundred eleventh and the one thousandth"),
        ("in 1905", "in nineteen oh five"),
        ("1900", "nineteen hundred"),
        ("2000", "two thousand"),
        ("2005", "two thousand five"),
        ("2018", "twenty eighteen"),
        ("999 and 2100", "nine hundred ninety-nine and two thousand one hundred"),
        ("1,905", "one thousand nine hundred five"),
        ("1994-1995", "nineteen ninety-four to nineteen ninety-five"),
        ("555-12-34", "five hundred fifty-five twelve thirty-four"),
        ("1960s", "nineteen sixties"),
        ("the '60s and 80's", "the sixties and eighties"),
        ("3.14", "three point one four"),
        (".05", "zero point zero five"),
        ("version 1.2.", "version one point two."),
        ("version 1.2.3", "version one point two point three"),
        ("It cost 5.", "it cost five."),
        ("007", "zero zero seven"),
        ("1234567890123456", "one two three four five six seven eight nine zero one two three four five six"),
        ("10:30", "ten thirty"),
        ("10:05", "ten oh five"),
        ("10:00", "ten o'clock"),
        ("-5 to 5", "minus five to five"),
        ("B2B, mp3", "b two b, mp three"),
        ("20%", "twenty percent"),
        ("5°C", "five degrees c"),
        ("AT&T", "at and t"),
        ("either/or", "either or"),
        ("1,2,3", "one,two,three"),
    ],
)
def test_numbers_and_signs(written, read):
    assert clean(written) == read


def test_every_cardinal_means_its_number():
    generator = random.Random(0)
    numbers = [n for n in range(1100)] + [generator.randrange(10**k) for k in range(4, 15) for _ in range(20)]
    for number in numbers:
        assert number_of(expand_numbers(f"{number:,}")) == number


def test_every_year_is_read_in_two_halves_or_as_a_whole():
    for year in range(1100, 2100):
        words = expand_numbers(str(year)).replace("-", " ").replace("oh ", "")
        if "thousand" in words:
            assert number_of(words) == year
            continue
        first, _, rest = words.partition(" ")
        if year >= 2000:
            assert (first, number_of(rest)) == ("twenty", year - 2000)
        else:
            assert 100 * UNITS.index(first) + (0 if rest == "hundred" else number_of(rest)) == year


def test_every_abbreviation_with_its_stop_and_none_without():
    for short, long in ABBREVIATIONS.items():
        assert expand_abbreviations(f"the {short}. of") == f"the {long} of"
        assert clean(f"{short.title()}. Hill") == f"{long} hill"
        assert clean(f"{short} hill") == f"{short} hill"
        assert clean(f"x{short}.") == f"x{short}."


def test_every_sign():
    for sign, word in SIGNS.items():
        assert clean(f"a{sign}b") == f"a {word} b"


def test_accents_and_typography_are_folded():
    assert fold("Ünïcode café, Ærø, straße, Łódź, Þór") == "Unicode cafe, AEro, strasse, Lodz, THor"
    assert fold("\u201cit\u2019s\u201d \u2013 she said\u2026 «oui»") == '"it\'s" - she said... "oui"'
    assert clean("Crème brûlée") == "creme brulee"


def test_whitespace_is_single_and_not_around():
    assert clean("  a\t b\n\nc \u00a0 d ") == "a b c d"
    assert clean(" \n ") == ""


def test_cleaning_twice_changes_nothing():
    generator = random.Random(1)
    alphabet = string.ascii_letters + string.digits + " .,$£%:'-&éß/"
    for _ in range(300):
        once = clean("".join(generator.choices(alphabet, k=30)))
        assert clean(once) == once
        assert not any(character.isdigit() or character.isupper() for character in once)


@pytest.mark.parametrize("piece", ["1", "1,", "1,111", "$1.", "1.", "12:3", "'10", "1-", "mr. ", "a ", "é—"])
def test_ten_thousand_characters(piece):
    text = (piece * 10_000)[:10_000]
    read = clean(text)
    assert len(read) >= len(clean(text[:5_000])) > 1000


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "num2words", None)
    from hw_tts.text import cleaning

    cleaning._words.cache_clear()
    assert clean("no digit") == "no digit"
    with pytest.raises(MissingPackageError, match="pip install num2words"):
        clean("7")
