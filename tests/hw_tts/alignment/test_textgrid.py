"""TextGrids: both formats, encodings, quotation marks, pauses, damage."""

import itertools

import pytest

from hw_base.audio.io import load
from hw_base.errors import DataError
from hw_base.texts.alignments import check_phones
from hw_tts.alignment.intervals import durations_from_phones
from hw_tts.alignment.textgrid import phones_from_textgrid, read_textgrid

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2.5
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 2.5
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 1
            text = "say ""yes"" 5 !"
        intervals [2]:
            xmin = 1
            xmax = 2.5
            text = "two
lines"
    item [2]:
        class = "TextTier"
        name = "events"
        xmin = 0
        xmax = 2.5
        points: size = 1
        points [1]:
            number = 0.75
            mark = "click"
    item [3]:
        class = "IntervalTier"
        name = "Anna - phones"
        xmin = 0
        xmax = 2.5
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "ø"
        intervals [2]:
            xmin = 0.5
            xmax = 1
            text = "sp"
        intervals [3]:
            xmin = 1
            xmax = 1.5
            text = ""
        intervals [4]:
            xmin = 1.5
            xmax = 2
            text = "ʃ"
"""

SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
2.5
<exists>
3
"IntervalTier"
"words"
0
2.5
2
0
1
"say ""yes"" 5 !"
1
2.5
"two
lines"
"TextTier" ! a comment with a " in it and 7 numbers
"events"
0 2.5 1 0.75 "click"
"IntervalTier"
"Anna - phones"
0
2.5
4
0 0.5 "ø" 0.5 1 "sp" 1 1.5 "" 1.5 2 "ʃ"
"""


# As Praat wrote it once and reads it still, and as several aligners write it.
OLD_SHORT = SHORT.replace('"ooTextFile"\nObject class = "TextGrid"', '"ooTextFile short"\n"TextGrid"')


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("text", [LONG, SHORT, OLD_SHORT], ids=["long", "short", "old short"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_formats_and_encodings(tmp_path, text, encoding, newline):
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    file = tmp_path / "a.TextGrid"
    file.write_bytes((mark + text.replace("\n", newline)).encode(encoding))
    grid = read_textgrid(file)
    assert (grid.start, grid.end) == (0, 2.5)
    assert [tier.name for tier in grid.tiers] == ["words", "events", "Anna - phones"]
    assert grid.tiers[0].intervals == [('say "yes" 5 !', 0, 1), (f"two{newline}lines", 1, 2.5)]
    assert grid.tiers[1].intervals == [("click", 0.75, 0.75)]
    assert phones_from_textgrid(file) == [["ø", 0, 0.5], ["sil", 0.5, 1.5], ["ʃ", 1.5, 2], ["sil", 2, 2.5]]
    assert phones_from_textgrid(file, silence="_")[1] == ["_", 0.5, 1.5]


def test_real_ones_tile_the_recording(real_data):
    for file in sorted((real_data / "mfa_samples").glob("*.TextGrid")):
        phones = phones_from_textgrid(file)
        check_phones(phones, file.stem)
        assert phones[-1][2] == read_textgrid(file).end
        assert len(phones) > 150
        assert {"AY1", "DH", "sil"} < {phone[0] for phone in phones}
        assert all(a[0] != "sil" or b[0] != "sil" for a, b in itertools.pairwise(phones))
        waveform, rate = load(file.with_suffix(".wav"))
        frames = len(waveform) // 200 + 1
        assert int(durations_from_phones(phones, frames, rate, 200, file.stem).sum()) == frames
        words = [w for w, *_ in phones_from_textgrid(file, "words") if w != "sil"]
        assert "corpus" in words or "cold" in words


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"ooTextFile"', '"something"'), "not a TextGrid"),
        (("xmax = 0.5", "xmax = none"), r"line \d+: expected a number, found \"ø"),
        (('"ʃ"', '"ʃ'), "line 54: a quotation mark that is not closed"),
        (("size = 4", "size = 5"), "line 54: the file ends where a number should be"),
        (("size = 4", "size = 4.5"), "line 38: expected a count, found 4.5"),
        (('"TextTier"', '"OtherTier"'), "line 25: expected a tier .* found 'OtherTier'"),
        (("xmax = 0.5", "xmax = -1"), "line 41: tier 'Anna - phones': an interval ends at -1 s"),
        (("xmax = 0.5", "xmax = 0.8"), "'Anna - phones'.*starts at 0.5 s instead of 0.8 s"),
        (("<exists>", "<perhaps>"), "line 6: expected <exists>"),
        (("Anna - phones", "phone"), "no tier named 'phones'; it has 'words', 'events', 'phone'"),
        (('"words"', '"Bob - phones"'), "several tiers named 'phones'"),
    ],
)
def test_damage_names_file_and_line(tmp_path, change, message):
    assert change[0] in LONG
    file = tmp_path / "b.TextGrid"
    file.write_text(LONG.replace(*change), encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        phones_from_textgrid(file)
    assert str(error.value).startswith(str(file))


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_textgrid(tmp_path / "none.TextGrid")
    (tmp_path / "c.TextGrid").write_bytes(b"\xff\x00\x81")
    with pytest.raises(DataError, match="not a text in UTF-8"):
        read_textgrid(tmp_path / "c.TextGrid")
