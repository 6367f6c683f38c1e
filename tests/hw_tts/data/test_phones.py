import pytest

from hw_base.data.dataset import Record
from hw_base.datasets import LJSpeech
from hw_base.errors import DataError
from hw_tts.alignment.intervals import durations_from_phones
from hw_tts.data.phones import phones_of
from hw_tts.text.characters import CharacterFrontEnd


def record(durations, text="Abc", seconds=1.0, rate=22050):
    alignment = {"durations": durations, "hop_length": 256, "sample_rate": rate}
    return Record("u7", "u7.wav", seconds, text, extra={"symbol_durations": alignment})


def test_without_an_alignment_there_is_none():
    assert phones_of(Record("u", "u.wav", 1.0, "a"), CharacterFrontEnd()) is None


def test_phones_stand_as_they_are():
    phones = [["_", 0.0, 0.1], ["a", 0.1, 1.0]]
    assert phones_of(Record("u", "u.wav", 1.0, extra={"phones": phones}), CharacterFrontEnd()) is phones


def test_durations_belong_to_the_symbols_of_the_text():
    durations = [40, 0, 47]
    phones = phones_of(record(durations, "A(b"), CharacterFrontEnd())
    assert [symbol for symbol, _, _ in phones] == ["a", "(", "b"]
    assert phones[0] == ["a", 0.0, 40 * 256 / 22050]
    assert phones[1][1] == phones[1][2]
    assert durations_from_phones(phones, 87, 22050, 256, "u7").tolist() == durations


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (record([40, 47]), "'u7': its alignment has 2 durations, but CharacterFrontEnd finds 3 symbols in 'Abc'"),
        (record([40, 7, 40], text=None), "finds 0 symbols"),
        (record([50, -7, 44]), "'u7': its alignment has negative durations"),
        (record([40, 7, 40], rate=16000), "'u7': its alignment covers 1.39 s .87 frames of 256 samples at 16000 Hz"),
        (record([40, 7, 40], seconds=1.4), "but the audio has 1.40 s; the alignment was made at another sampling rate"),
    ],
)
def test_an_alignment_that_does_not_fit_is_named(bad, message):
    with pytest.raises(DataError, match=message):
        phones_of(bad, CharacterFrontEnd())


def test_published_durations_of_real_recordings(real_data):
    folder = real_data / "LJSpeech-1.1"
    corpus = LJSpeech(str(folder), "all", alignments=str(folder / "alignments.zip"))
    assert len(corpus) == 35
    for one in corpus.records:
        frames = round(one.duration * 22050) // 256 + 1
        phones = phones_of(one, CharacterFrontEnd())
        durations = durations_from_phones(phones, frames, 22050, 256, one.utterance_id, tolerance=0)
        assert durations.tolist() == one.extra["symbol_durations"]["durations"]
        # At another rate and hop the same times are other frames.
        other = durations_from_phones(phones, round(one.duration * 16000) // 200 + 1, 16000, 200, one.utterance_id)
        assert other.sum() == round(one.duration * 16000) // 200 + 1
