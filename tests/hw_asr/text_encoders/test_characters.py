import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_asr.text_encoders.characters import CharTextEncoder
from hw_base.errors import CheckpointError, ConfigError, DataError


def test_blank_is_0_and_the_alphabet_follows():
    encoder = CharTextEncoder()
    assert len(encoder) == 29
    assert encoder.encode(" it's ") == [11, 22, 2, 21]
    assert encoder.decode([11, 22, 2, 21, 1, 3]) == "it's a"


@pytest.mark.parametrize(
    ("text", "normal", "unknown"),
    [
        ("Hello,  World!", "hello world", []),
        ("DON\u2019T", "don't", []),
        ("caf\u00e9 cafe\u0301 na\u00efve", "cafe cafe naive", []),
        ("well-known\ttwo\nlines\u00a0here", "well known two lines here", []),
        ("room 42", "room", ["4", "2"]),
        ("\ufb01ne stra\u00dfe", "fine strasse", []),
        ("\u00bd \u4e2d a", "a", ["\u00bd", "\u4e2d"]),
        ("a $5 b", "a b", ["$", "5"]),
        (" \t ", "", []),
        ("", "", []),
    ],
)
def test_normalization(text, normal, unknown):
    encoder = CharTextEncoder()
    assert encoder.normalize(text) == normal
    assert encoder.unknown(text) == unknown


@given(st.text(max_size=30))
def test_any_text_becomes_ids_that_decode_to_the_normalized_text(text):
    encoder = CharTextEncoder()
    normal, ids = encoder.normalize(text), encoder.encode(text)
    assert all(type(i) is int and 1 <= i < len(encoder) for i in ids)
    assert encoder.decode(ids) == normal == encoder.normalize(normal)
    assert normal == " ".join(normal.split())
    assert encoder.unknown(normal) == []


def test_accents_of_the_alphabet_are_kept():
    encoder = CharTextEncoder(" \u0438\u0439\u0435\u0451")
    assert encoder.normalize("\u0419\u0401 \u0438\u0306") == "\u0439\u0451 \u0439"
    assert encoder.normalize("don't") == ""
    assert encoder.unknown("a'") == ["a"]


def test_an_alphabet_without_space_joins_words():
    assert CharTextEncoder("ab").encode("a b") == [1, 2]


@pytest.mark.parametrize(
    ("alphabet", "message"), [("aab", "more than once"), ("aB", "lower-cased"), ("a\t", "cannot occur")]
)
def test_unusable_alphabets_are_refused(alphabet, message):
    with pytest.raises(ConfigError, match=message):
        CharTextEncoder(alphabet)


def test_foreign_ids_are_refused():
    for bad in ([0], [29], [-1]):
        with pytest.raises(DataError, match=r"outside 1\.\.28"):
            CharTextEncoder().decode(bad)


def test_the_state_makes_another_encoder_equal():
    encoder, other = CharTextEncoder("ba "), CharTextEncoder()
    other.load_state_dict(encoder.state_dict())
    assert other.encode("a b") == encoder.encode("a b") == [2, 3, 1]
    assert len(other) == 4
    with pytest.raises(CheckpointError, match="alphabet"):
        other.load_state_dict({"model": 1})
