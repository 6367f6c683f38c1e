import pytest
import torch

from hw_base.audio import io as audio
from hw_base.datasets import FileList
from hw_base.errors import DataError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "p1").mkdir()
    for name, seconds in (("a", 0.5), ("b", 0.25)):
        audio.save(tmp_path / "p1" / f"{name}.wav", torch.zeros(int(16000 * seconds)), 16000)
    return tmp_path


def test_a_list_with_speakers(folder):
    (folder / "list.txt").write_text("p1/a.wav|103|n\u02c8o, w\u02c8n\n\np1/b.wav|104| two \n", encoding="utf-8")
    first, second = FileList(str(folder / "list.txt")).records
    assert (first.utterance_id, first.speaker, first.text, first.duration) == ("p1_a", "103", "n\u02c8o, w\u02c8n", 0.5)
    assert (second.speaker, second.text, second.duration) == ("104", "two", 0.25)


def test_a_list_of_one_speaker_with_another_root(folder):
    (folder / "lists").mkdir()
    (folder / "lists" / "one.txt").write_text("p1/a.wav|one\n", encoding="utf-8")
    (record,) = FileList(str(folder / "lists" / "one.txt"), root=str(folder)).records
    assert (record.speaker, record.text, record.duration) == ("", "one", 0.5)


def test_bad_lines_are_all_named(folder):
    (folder / "list.txt").write_text("p1/a.wav\np1/a.wav|x\np1/a.wav|y\n|1|z\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        FileList(str(folder / "list.txt"))
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert "line 1: expected path|speaker|text" in lines[0]
    assert "line 3: 'p1/a.wav' stands in line 2 already" in lines[1]
    assert "line 4: expected" in lines[2]


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_list_is_refused(folder, content):
    (folder / "list.txt").write_text(content)
    with pytest.raises(DataError, match="lists no utterances"):
        FileList(str(folder / "list.txt"))


def test_a_missing_list_is_said_so(folder):
    with pytest.raises(DataError, match=r"none\.txt: cannot be read"):
        FileList(str(folder / "none.txt"))
