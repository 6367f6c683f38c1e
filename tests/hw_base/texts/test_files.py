import pytest

from hw_base.errors import DataError
from hw_base.texts.files import from_json, read_lines, read_text, read_transcript, transcript_files

SENTENCE = "before\u2028after\x0cform feed\x0bvertical tab\x85next line\x1cseparator"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_only_line_ends_end_lines_and_byte_order_marks_are_no_text(tmp_path, end, encoding):
    path = tmp_path / "list.txt"
    path.write_bytes(f"first ё{end}{SENTENCE}{end}{end}last{end}".encode(encoding))
    assert read_lines(path) == ["first ё", SENTENCE, "", "last"]
    path.write_bytes(f"no end of line{end}last".encode(encoding))
    assert read_lines(path) == ["no end of line", "last"]


def test_an_empty_file_has_no_lines(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf")
    assert read_lines(tmp_path / "a") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"good\n\xef\xf0\xe8\xe2\xe5\xf2\n",
            r"a\.txt, line 2: cannot be read as UTF-8 .* at byte 5\); save the file as UTF-8",
        ),
        (b"\xff\xfea\0\n\0\x00", r"a\.txt, line 2: cannot be read as UTF-16"),
        ("utf-16 without a mark".encode("utf-16-le"), r"a\.txt, line 1: a zero byte"),
    ],
)
def test_another_encoding_is_named_with_its_line(tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_lines(tmp_path / "a.txt")


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path, "a\0b"):
        with pytest.raises(DataError, match="cannot be read"):
            read_text(path)


def test_transcripts_are_txt_or_lab(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    (tmp_path / "b.LAB").write_text("three")
    (tmp_path / ".c.txt").write_text("hidden")
    (tmp_path / "d.json").write_text("{}")
    files = transcript_files(tmp_path)
    assert {name: read_transcript(file) for name, file in files.items()} == {"a": "one two", "b": "three"}
    (tmp_path / "b.txt").write_text("four")
    with pytest.raises(DataError, match=r"two files for the utterance 'b'"):
        transcript_files(tmp_path)


def test_a_few_bytes_of_another_encoding_can_be_replaced(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9\nb\n")
    assert read_text(tmp_path / "a.txt", errors="replace") == "caf\ufffd\nb\n"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[1", b"\xff"])
def test_json_that_cannot_be_read_is_one_kind_of_error(text):
    with pytest.raises(ValueError, match=r"nested too deeply|line 1 column 3|decode byte 0xff"):
        from_json(text)
