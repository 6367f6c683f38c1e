"""Long texts are cut where speech may pause."""

import pytest

from hw_tts.text.cutting import halves, sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Who met J. R. Smith. He left.", ["Dr. Who met J. R. Smith.", "He left."]),
        ("It is 3.5 m. high", ["It is 3.5 m. high"]),
        ('"Go." She went.', ['"Go."', "She went."]),
        ("A title\n\nA text", ["A title", "A text"]),
        ("Привет. Пока.", ["Привет.", "Пока."]),
        ("  ", []),
    ],
)
def test_sentences_end_at_their_stops_and_not_at_abbreviations(text, expected):
    assert sentences(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two, three four five", ["one two,", "three four five"]),
        ("one two three four", ["one two", "three four"]),
        ("abcdef", ["abc", "def"]),
        ("a", ["a"]),
    ],
)
def test_a_long_sentence_is_halved_at_the_best_place(text, expected):
    assert halves(text) == expected
