"""Corpora that are downloaded or listed in tables: LibriSpeech from a hostile server, LJSpeech, Common Voice."""

import hashlib
import io
import tarfile
import threading

import numpy as np
import pytest
import soundfile

from hw_base.data.split import Split
from hw_base.datasets import CommonVoice, LibriSpeech, LJSpeech, librispeech
from hw_base.errors import DataError
from tests.hostile_server import hostile_server


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")


def sound(seconds=0.5, rate=16000, kind="FLAC"):
    file = io.BytesIO()
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, int(rate * seconds))
    soundfile.write(file, samples, rate, format=kind)
    return file.getvalue()


def archive(part, *more):
    """As the official ones: a README beside, utterances below ``LibriSpeech/<part>``."""
    base = f"LibriSpeech/{part}/84/121"
    members = [("LibriSpeech/README.TXT", b"read me"), *((f"{base}/84-121-000{i}.flac", sound()) for i in range(3))]
    lines = "".join(f"84-121-000{i} SAID {part} {i}\n" for i in range(3))
    members += [(f"{base}/84-121.trans.txt", lines.encode()), *more]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def server(monkeypatch):
    with hostile_server(archive("dev-clean")) as made:
        made.base_url = made.url.rpartition("/")[0]
        monkeypatch.setitem(librispeech.MD5, "dev-clean", hashlib.md5(made.content).hexdigest())
        yield made


def get(server, root, part="dev-clean"):
    return LibriSpeech(str(root), part, download=True, base_url=server.base_url + "/")


def test_a_missing_part_is_downloaded_once(server, tmp_path):
    root = tmp_path / "corpus"
    dataset = get(server, root)
    assert [(r.utterance_id, r.text, r.duration) for r in dataset.records] == [
        (f"84-121-000{i}", f"SAID dev-clean {i}", 0.5) for i in range(3)
    ]
    assert {p.name for p in root.iterdir()} == {"dev-clean", ".dev-clean.lock"}
    assert dataset.records == get(server, root).records == LibriSpeech(str(root), "dev-clean").records
    assert len(server.requests) == 1


def test_a_download_that_is_cut_goes_on(server, tmp_path):
    server.faults = {"cut": len(server.content) // 2 + 1, "etag": '"v1"'}
    assert len(get(server, tmp_path)) == 3
    assert len(server.requests) == 2


def test_several_processes_download_once(server, tmp_path):
    threads = [threading.Thread(target=get, args=(server, tmp_path / "corpus")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1
    assert len(LibriSpeech(str(tmp_path / "corpus"), "dev-clean")) == 3


def test_what_is_not_the_official_archive_leaves_nothing(server, tmp_path, monkeypatch):
    server.content = archive("dev-clean") + b"x"
    with pytest.raises(DataError, match="removed, because its md5 is"):
        get(server, tmp_path / "a")
    server.content = archive("dev-clean", ("../../evil", b"x"))
    monkeypatch.setitem(librispeech.MD5, "dev-clean", hashlib.md5(server.content).hexdigest())
    with pytest.raises(DataError, match=r"member '../../evil' would lie outside"):
        get(server, tmp_path / "b")
    server.content = archive("dev-clean", ("LibriSpeech/zeros", bytes(65 << 20)))
    monkeypatch.setitem(librispeech.MD5, "dev-clean", hashlib.md5(server.content).hexdigest())
    with pytest.raises(DataError, match="unpacks to more than"):
        get(server, tmp_path / "c")
    server.faults = {"html": "text/html"}
    with pytest.raises(DataError, match="a web page instead of the file"):
        get(server, tmp_path / "d")
    assert not [p for p in tmp_path.rglob("*") if p.name in ("dev-clean", "evil", "zeros")]


def test_the_checksums_are_those_of_the_official_list():
    """The site's md5sum.txt, which several public recipes repeat."""
    assert librispeech.MD5.keys() == set(librispeech.Part.__args__) - {"train-960"}
    assert len(set(librispeech.MD5.values())) == 7
    assert librispeech.MD5["dev-clean"] == "42e2234ba48799c1f50f24a7926300a1"
    assert librispeech.MD5["train-other-500"] == "d1a0fd59409feb2c614ce4d30c387708"
    assert all(len(bytes.fromhex(digest)) == 16 for digest in librispeech.MD5.values())


def test_the_960_hours_are_three_parts(tmp_path):
    for i, part in enumerate(librispeech.UNIONS["train-960"]):
        chapter = tmp_path / part / "84" / f"{i}"
        chapter.mkdir(parents=True)
        (chapter / f"84-{i}-0000.flac").write_bytes(sound(0.5 + i))
        (chapter / f"84-{i}.trans.txt").write_text(f"84-{i}-0000 {part}\n")
    dataset = LibriSpeech(str(tmp_path), "train-960")
    assert [(r.text, r.duration) for r in dataset.records] == [
        ("train-clean-100", 0.5), ("train-clean-360", 1.5), ("train-other-500", 2.5),
    ]  # fmt: skip
    assert dataset.name == "LibriSpeech train-960"
    (tmp_path / "train-clean-360").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="train-clean-360, which does not exist"):
        LibriSpeech(str(tmp_path), "train-960")


# ---------------------------------------------------------------- LJSpeech


def ljspeech(root, numbers=range(1, 41), missing=()):
    (root / "wavs").mkdir(parents=True)
    lines = []
    for number in numbers:
        name = f"LJ001-{number:04}"
        lines.append(f'{name}|in "18{number}"|in "eighteen" {number}')
        if number not in missing:
            (root / "wavs" / f"{name}.wav").write_bytes(sound(0.1, 22050, "WAV"))
    (root / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(root)


def test_ljspeech_parts(tmp_path):
    root = ljspeech(tmp_path / "lj")
    parts = {part: LJSpeech(root, part) for part in ("train", "val", "test", "all")}
    ids = {part: [int(r.utterance_id[-4:]) for r in dataset.records] for part, dataset in parts.items()}
    assert ids["val"] == [10, 30]
    assert ids["test"] == [20, 40]
    assert sorted(ids["train"] + ids["val"] + ids["test"]) == ids["all"] == list(range(1, 41))
    record = parts["val"].records[0]
    assert (record.text, record.speaker) == ('in "eighteen" 10', "LJ")
    assert record.duration == pytest.approx(0.1)
    split = Split("val", [parts["val"]], lambda record, waveform, generator: {"waveform": waveform}, 16000)
    assert split[0]["waveform"].shape == (1600,)


def test_ljspeech_takes_what_is_there(tmp_path, caplog):
    root = ljspeech(tmp_path / "lj", missing=[*range(1, 9), 20])
    assert len(LJSpeech(root, "all")) == 31
    assert "9 transcripts have no audio file" in caplog.text


def test_ljspeech_faults(tmp_path):
    with pytest.raises(DataError, match=r"expected the file .*metadata\.csv, which does not exist"):
        LJSpeech(str(tmp_path), "train")
    root = ljspeech(tmp_path / "lj", numbers=[1])
    with pytest.raises(DataError, match="none of the 0 recordings of 'test'"):
        LJSpeech(root, "test")
    metadata = tmp_path / "lj" / "metadata.csv"
    for content, message in [
        (b"LJ001-0001|a|b\nnonsense\n", "line 2: expected <id>"),
        (b"id|a|b\n", "'id' does not end in a number"),
        (b"LJ001-0001|a|b\nLJ001-0001|a|b\n", "line 2: the id 'LJ001-0001' appears twice"),
        (b"\xff\xfe\x00", "cannot be read"),
    ]:
        metadata.write_bytes(content)
        with pytest.raises(DataError, match=message):
            LJSpeech(root, "train")


def test_real_ljspeech(real_data):
    root = real_data / "LJSpeech-1.1"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    parts = {part: LJSpeech(str(root), part) for part in ("train", "val", "test", "all")}
    assert len(parts["all"]) == sum(len(parts[part]) for part in ("train", "val", "test")) == 35
    assert 60 < sum(r.duration for r in parts["all"].records) < 350
    waveform, rate = parts["all"].read(parts["all"].records[0])
    assert rate == 22050
    assert waveform.abs().max() > 0.05


# ---------------------------------------------------------------- Common Voice


def common_voice(root, rows, columns=("client_id", "path", "sentence", "up_votes")):
    (root / "clips").mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(columns), *("\t".join(row) for row in rows)]
    (root / "dev.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(root)


def test_common_voice(tmp_path):
    rows = [
        ("anna", "cv_1.mp3", 'Sie sagte: "Ja."', "2"),
        ("bob", "cv_2", "one\u2028line", "0"),
        ("", "no.mp3", "x", "1"),
    ]
    root = common_voice(tmp_path / "de", rows)
    for name in ("cv_1", "cv_2"):
        (tmp_path / "de" / "clips" / f"{name}.mp3").write_bytes(sound(1.0, 48000, "MP3"))
    dataset = CommonVoice(root, "dev")
    assert [(r.utterance_id, r.text, r.speaker) for r in dataset.records] == [
        ("cv_1", 'Sie sagte: "Ja."', "anna"), ("cv_2", "one\u2028line", "bob"), ("no", "x", ""),
    ]  # fmt: skip
    assert dataset.records[0].duration == pytest.approx(1.0, abs=0.06)
    assert "audio_error" in dataset.records[2].extra
    split = Split("dev", [dataset], lambda r, waveform, g: {"waveform": waveform}, 16000, on_bad_data="skip")
    assert len(split) == 2
    assert "dropped 1 unreadable (first: no)" in split.report[0]
    assert split[0]["waveform"].shape[0] == pytest.approx(16000, abs=1000)
    with pytest.raises(DataError, match=r"utterance 'no': .*no\.mp3"):
        Split("dev", [dataset], lambda r, waveform, g: {"waveform": waveform}, 16000)


def test_common_voice_faults(tmp_path):
    with pytest.raises(DataError, match=r"expected the file .*train\.tsv, which does not exist"):
        CommonVoice(str(tmp_path), "train")
    good = ("a", "1.mp3", "x", "0")
    for rows, message in [
        ([], "lists no clips"),
        ([good, ("a", "2.mp3")], "line 3: 2 values for 4 columns"),
        ([good, good], "line 3: '1.mp3' is not the name of a new clip"),
        ([("a", "../1.mp3", "x", "0")], r"line 2: '\.\./1.mp3' is not the name"),
        ([("a", "", "x", "0")], "line 2: '' is not the name"),
    ]:
        with pytest.raises(DataError, match=message):
            CommonVoice(common_voice(tmp_path, rows), "dev")
    with pytest.raises(DataError, match=r"has no column \['sentence'\]"):
        CommonVoice(common_voice(tmp_path, [good], columns=("client_id", "path", "text", "x")), "dev")
