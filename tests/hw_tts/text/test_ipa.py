import hashlib

import pytest

from hw_base.errors import ConfigError, DataError
from hw_base.registry import TEXT_ENCODERS
from hw_tts.text.ipa import TABLES, IPAFrontEnd

pytest.importorskip("espeakng_loader", reason="phonetic writing needs espeakng-loader")

# Sentences of VCTK with the writing of the public file lists, made by another program and version of espeak-ng.
PUBLISHED = {
    "Sounds like the sixth sense?": "sˈaʊndz lˈaɪk ðə sˈɪksθ sˈɛns?",
    "If they don't, they can expect their funding to be cut.": (
        "ɪf ðeɪ dˈoʊnt, ðeɪ kæn ɛkspˈɛkt ðɛɹ fˈʌndɪŋ təbi kˈʌt."
    ),
    "They've got to account for it.": "ðeɪv ɡɑːt tʊ ɐkˈaʊnt fɔːɹ ɪt.",
    "Johnson was pretty low.": "dʒˈɑːnsən wʌz pɹˈɪɾi lˈoʊ.",
    "Who do these people think they are?": "hˌuː dˈuː ðiːz pˈiːpəl θˈɪŋk ðeɪ ɑːɹ?",
}


@pytest.fixture(scope="module")
def front_end():
    one = TEXT_ENCODERS["IPAFrontEnd"](table="vits")
    yield one
    one.close()


@pytest.mark.parametrize("text", PUBLISHED)
def test_published_writings(front_end, text):
    assert "".join(front_end.symbols(text)) == PUBLISHED[text]
    assert front_end.unknown(text) == []


def test_punctuation_stands_where_it_stood(front_end):
    symbols = "".join(front_end.symbols('"Yes," - she said; "no"... (two)!'))
    kept = [c for c in symbols if c in ';:,.!?¡¿—…"«»']
    assert "".join(kept) == '",";""...!'
    assert symbols.startswith('"jˈɛs," ʃiː')


def test_numbers_and_abbreviations_are_read(front_end):
    assert front_end.symbols("Dr. Who, 1905") == front_end.symbols("doctor who, nineteen oh five")


def test_phonetic_text_stands_as_it_is(front_end):
    for writing in PUBLISHED.values():
        assert front_end.symbols(f" {writing}  ") == list(writing)
        assert front_end.decode(front_end.encode(writing)) == writing


# The hashes are those of the tables in the public programs, without the padding.
@pytest.mark.parametrize(
    ("table", "size", "digest"),
    [("vits", 178, "85a9c3d695aab86f"), ("mb_istft_vits2", 205, "b778e40937320857")],
)
def test_tables_of_public_checkpoints(table, size, digest):
    one = IPAFrontEnd(table=table, add_blank=True)
    assert len(one) == size
    assert hashlib.sha256("".join(TABLES[table]).encode()).hexdigest()[:16] == digest
    assert one.encode_symbols([" ", "ə"]) == [0, 16, 0, 1 + TABLES[table].index("ə"), 0]
    # The apostrophe stands twice in the table; public programs use the second place.
    assert one.encode_symbols(["'"]) == [0, size - 2, 0]


def test_tables_of_ones_own_and_learned_ones():
    one = IPAFrontEnd(table=["a", "b"])
    assert one.encode("a ˈb") == [1, 2]
    assert one.unknown("a ˈb") == [" ", "ˈ"]
    learned = IPAFrontEnd()
    learned.fit(["a ˈb"])
    assert learned.table == [" ", "a", "b", "ˈ"]
    with pytest.raises(ConfigError, match="an empty list of symbols"):
        IPAFrontEnd(table=[])


def test_accents_differ_and_unknown_ones_are_refused(front_end):
    british = IPAFrontEnd(accent="en-gb-x-rp")
    assert british.symbols("a bath in the car") != front_end.symbols("a bath in the car")
    british.close()
    with pytest.raises(ConfigError, match="British English is 'en'"):
        IPAFrontEnd(accent="en-gb")


@pytest.mark.parametrize("text", ["", " ", "?!", "()"])
def test_nothing_to_say(front_end, text):
    assert front_end.symbols(text) == []
    with pytest.raises(DataError, match="nothing to say"):
        front_end.encode(text)


def test_ten_thousand_characters(front_end):
    sentence = "Sounds like the sixth sense? "
    text = (sentence * 345)[:10_000]
    symbols = "".join(front_end.symbols(text))
    assert symbols.startswith((PUBLISHED[sentence.strip()] + " ") * 340)


def test_real_file_lists_have_no_unknown_symbols(front_end, real_data):
    lines = (real_data / "text" / "vits_ljs_audio_text_val_filelist.txt").read_text(encoding="utf-8").splitlines()
    for line in lines[::5]:
        assert front_end.unknown(line.split("|")[-1]) == []
