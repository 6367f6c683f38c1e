import re

import editdistance
import pytest

from hw_base.checkpoint import load, save
from hw_base.errors import CheckpointError, ConfigError, DataError
from hw_base.registry import TEXT_ENCODERS
from hw_tts.text.arpabet import PAUSES, PHONES, ArpabetFrontEnd

LEXICON = """;;; comment
HELLO  HH AH0 L OW1
HELLO(1)  HH EH0 L OW1
BREAK  B R EY1 K
DOG  D AO1 G
MOUSE  M AW1 S
CAT  K AE1 T
O'NEIL  OW0 N IY1 L
FIVE F AY1 V # comment
"""


@pytest.fixture
def lexicon(tmp_path):
    file = tmp_path / "lexicon"
    file.write_text(LEXICON, encoding="utf-8")
    return str(file)


def test_the_inventory_is_that_of_cmudict():
    assert len(set(PHONES)) == len(PHONES) == 15 * 3 + 24
    assert len(ArpabetFrontEnd()) == 1 + 69 + 3 + 10


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, break!", "HH AH0 L OW1 , B R EY1 K !"),
        ("'Hello' O'Neil.", "HH AH0 L OW1 OW0 N IY1 L ."),
        ("dog's mouse's cat's", "D AO1 G Z M AW1 S IH0 Z K AE1 T S"),
        ("5", "F AY1 V"),
        ("a {B R AE1 K sp} dog", "EY1 B R AE1 K sp D AO1 G"),
        ("xw", "EH1 K S D AH1 B AH0 L Y UW0"),
    ],
)
def test_words_braces_and_punctuation(lexicon, text, expected):
    front_end = TEXT_ENCODERS["ArpabetFrontEnd"](lexicon)
    symbols = [s for s in front_end.symbols(text) if s != "'"]
    assert " ".join(symbols) == expected
    assert front_end.unknown(text) == []


def test_word_boundaries(lexicon):
    front_end = ArpabetFrontEnd(lexicon, word_boundaries=True)
    assert "|".join(front_end.symbols(" dog {K}  dog{K}, cat ")) == "D|AO1|G| |K| |D|AO1|G|K|,| |K|AE1|T"


@pytest.mark.parametrize("word", ["привет", "γειά", "你好", "naб", "ħa", "ꭓ"])
@pytest.mark.parametrize("unknown_words", ["spell", "fail"])
def test_a_word_of_other_letters_is_refused_by_name(lexicon, word, unknown_words):
    front_end = ArpabetFrontEnd(lexicon, unknown_words=unknown_words)
    with pytest.raises(DataError, match=r"the lexicon has no word '.+', found in"):
        front_end.symbols(f"dog {word} cat")
    skipping = ArpabetFrontEnd(lexicon, unknown_words="skip")
    assert skipping.symbols(f"dog {word} cat") == skipping.symbols("dog cat")
    assert len(skipping.unknown(f"dog {word} cat")) == 1


def test_words_that_the_lexicon_lacks(lexicon):
    skipping = ArpabetFrontEnd(lexicon, unknown_words="skip")
    assert skipping.symbols("qu dog") == ["D", "AO1", "G"]
    assert skipping.unknown("qu dog {QQ} qu") == ["qu", "qu", "QQ"]
    assert ArpabetFrontEnd(lexicon).unknown("qu") == []
    with pytest.raises(DataError, match=r"no word 'qu', found in 'the qu'|no word 'the'"):
        ArpabetFrontEnd(lexicon, unknown_words="fail").encode("the qu")
    with pytest.raises(DataError, match="nothing to say"):
        skipping.encode("qu")


def test_the_words_travel_in_the_checkpoint(lexicon, tmp_path):
    front_end = ArpabetFrontEnd(lexicon)
    save(tmp_path / "c.pth", {"text_encoder": front_end.state_dict()})
    state = load(tmp_path / "c.pth")["text_encoder"]
    other = ArpabetFrontEnd("is not there")
    other.load_state_dict(state)
    assert other.words == front_end.words
    assert other.encode("hello dog's") == front_end.encode("hello dog's")
    empty = ArpabetFrontEnd()
    empty.load_state_dict(ArpabetFrontEnd().state_dict())
    assert empty.words == {}
    with pytest.raises(CheckpointError, match="has no lexicon"):
        empty.load_state_dict({"symbols": ["a"], "add_blank": False})


def test_bad_lexicons(tmp_path):
    bad = tmp_path / "bad"
    bad.write_text("A  AH0\nDOG D AO G\nCAT\n")
    with pytest.raises(ConfigError) as caught:
        ArpabetFrontEnd(str(bad)).symbols("a")
    assert [line.split(": ")[1].split(", ")[-1] for line in str(caught.value).splitlines()] == ["line 2", "line 3"]
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        ArpabetFrontEnd(str(tmp_path / "absent")).symbols("a")


def test_ten_thousand_characters(lexicon):
    assert len(ArpabetFrontEnd(lexicon).encode(("dog cat " * 1250)[:10_000])) == 7500
    assert len(ArpabetFrontEnd(lexicon).encode("x" * 10_000)) == 30_000


def test_against_aligned_phones_of_real_recordings(real_data):
    """The aligner picked the pronunciation that was heard; ours is the dictionary's first: a few per cent differ."""
    front_end = ArpabetFrontEnd(str(real_data / "text" / "cmudict-0.7b_nv22.10"), unknown_words="skip")
    distance = total = 0
    for line in (real_data / "LJSpeech-1.1" / "phonemes" / "val.txt").read_text().splitlines()[:200]:
        _, _, phones, text = line.split("|")
        assert front_end.unknown(phones) == []
        if "spn" in phones or front_end.unknown(text):
            continue
        heard = [re.sub(r"\d", "", p) for p in front_end.symbols(phones) if p not in PAUSES]
        read = [re.sub(r"\d", "", p) for p in front_end.symbols(text) if p in PHONES]
        distance += editdistance.eval(heard, read)
        total += len(heard)
    assert total > 5000
    assert distance / total < 0.06
