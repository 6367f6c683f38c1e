import io
import zipfile

import numpy as np
import pytest

from hw_base.datasets import FileList, LibriSpeech, LJSpeech
from hw_base.errors import DataError

soundfile = pytest.importorskip("soundfile")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def corpus(tmp_path):
    """Three recordings, the durations of five lines."""
    root = tmp_path / "lj"
    (root / "wavs").mkdir(parents=True)
    names = [f"LJ001-{number:04}" for number in (5, 3, 9, 1, 7)]
    for name in names[1:4]:
        soundfile.write(root / "wavs" / f"{name}.wav", np.full(2205, 0.1), 22050)
    (root / "metadata.csv").write_text("".join(f"{name}|x|text {name}\n" for name in names))
    (root / "alignments").mkdir()
    for i in range(5):
        np.save(root / "alignments" / f"{i}.npy", np.arange(i + 2, dtype=np.int32))
    return root


def durations_of(dataset):
    return {r.utterance_id: r.extra["symbol_durations"]["durations"] for r in dataset.records}


def test_durations_are_by_line_of_the_metadata(corpus):
    expected = {"LJ001-0003": [0, 1, 2], "LJ001-0009": [0, 1, 2, 3], "LJ001-0001": [0, 1, 2, 3, 4]}
    dataset = LJSpeech(str(corpus), "all", alignments=str(corpus / "alignments"))
    assert durations_of(dataset) == expected
    assert dataset.records[0].extra["symbol_durations"]["hop_length"] == 256
    assert dataset.records[0].extra["symbol_durations"]["sample_rate"] == 22050
    with zipfile.ZipFile(corpus / "a.zip", "w") as archive:
        for i in range(5):
            archive.write(corpus / "alignments" / f"{i}.npy", f"any/{i}.npy")
    assert durations_of(LJSpeech(str(corpus), "all", alignments=str(corpus / "a.zip"))) == expected
    assert "symbol_durations" not in LJSpeech(str(corpus), "all").records[0].extra


def test_a_part_of_the_corpus_needs_the_metadata_of_the_whole(corpus):
    full = (corpus / "metadata.csv").read_text()
    (corpus / "metadata.csv").write_text("".join(full.splitlines(keepends=True)[1:3]))
    with pytest.raises(DataError, match=r"durations for 5 lines, but the metadata has 2: put .*metadata_full\.csv"):
        LJSpeech(str(corpus), "all", alignments=str(corpus / "alignments"))
    (corpus / "metadata_full.csv").write_text(full)
    dataset = LJSpeech(str(corpus), "all", alignments=str(corpus / "alignments"))
    assert durations_of(dataset) == {"LJ001-0003": [0, 1, 2], "LJ001-0009": [0, 1, 2, 3]}
    (corpus / "metadata_full.csv").write_text(full.splitlines(keepends=True)[0])
    with pytest.raises(DataError, match="has no line for 2 utterances, the first 'LJ001-0003'"):
        LJSpeech(str(corpus), "all", alignments=str(corpus / "alignments"))


def test_missing_and_damaged_durations_are_named(corpus):
    folder = corpus / "alignments"
    (folder / "1.npy").unlink()
    (folder / "3.npy").unlink()
    with pytest.raises(DataError, match=r"no durations for 2 utterances: 'LJ001-0003' \(1\.npy\), 'LJ001-0001' \(3"):
        LJSpeech(str(corpus), "all", alignments=str(folder))
    for content, message in [
        (b"", r"1\.npy cannot be read"),
        (b"nonsense", r"1\.npy cannot be read"),
        (saved(np.ones(3)), "expected a list of whole numbers, found float64"),
        (saved(np.ones((3, 1), dtype=np.int32)), r"found int32 \(3, 1\)"),
        (saved(np.array([print], dtype=object)), r"1\.npy cannot be read: .*allow_pickle"),
    ]:
        (folder / "1.npy").write_bytes(content)
        (folder / "3.npy").write_bytes(saved(np.ones(2, dtype=np.int64)))
        with pytest.raises(DataError, match=message):
            LJSpeech(str(corpus), "all", alignments=str(folder))


def saved(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_alignments_that_are_none(corpus):
    for path, message in [
        (corpus / "nowhere", "does not exist"),
        (corpus / "metadata.csv", "cannot be read"),
        (corpus / "wavs", "holds no files"),
    ]:
        with pytest.raises(DataError, match=message):
            LJSpeech(str(corpus), "all", alignments=str(path))


def test_librispeech_picks_of_the_same_speakers(real_data):
    picks = {
        pick: {
            r.utterance_id
            for r in LibriSpeech(
                str(real_data / "LibriSpeech"), "train-clean-100", speakers=["26", "27"], pick=pick
            ).records
        }
        for pick in ("all", "train", "val")
    }
    assert not picks["train"] & picks["val"]
    assert picks["train"] | picks["val"] == picks["all"]
    assert 0.03 < len(picks["val"]) / len(picks["all"]) < 0.08
    assert {name.split("-")[0] for name in picks["val"]} == {"26", "27"}


def test_real_file_lists(real_data, tmp_path):
    text = real_data / "text"
    two = FileList(str(text / "vits_ljs_audio_text_val_filelist.txt"), root=str(tmp_path))
    assert len(two) == 100
    assert two.records[0].utterance_id == "DUMMY1_LJ022-0023"
    assert two.records[0].text.startswith("The overwhelming majority of people")
    three = FileList(str(text / "vits_vctk_audio_sid_text_val_filelist.txt"), root=str(tmp_path))
    first = three.records[0]
    assert (len(three), first.speaker, first.text) == (100, "88", "It had happened to him.")
    assert first.audio_path == str(tmp_path / "DUMMY2" / "p364" / "p364_240.wav")
