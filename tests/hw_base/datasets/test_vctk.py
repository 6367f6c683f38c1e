import numpy as np
import pytest
import torch

from hw_base.audio.silence import speech_bounds
from hw_base.data.split import Split
from hw_base.datasets import VCTK
from hw_base.errors import ConfigError, DataError

soundfile = pytest.importorskip("soundfile")
RATE = 16000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def speech(seconds=0.5, before=0.0, after=0.0):
    noise = np.random.default_rng(0)
    loud = noise.uniform(-0.5, 0.5, round(seconds * RATE))
    quiet = [noise.uniform(-1e-4, 1e-4, round(s * RATE)) for s in (before, after)]
    return np.concatenate([quiet[0], loud, quiet[1]])


def vctk(root, folder="wav48_silence_trimmed", ending="_mic{}.flac", speakers=("p225", "p226"), numbers=range(1, 41)):
    for speaker in speakers:
        (root / folder / speaker).mkdir(parents=True)
        (root / "txt" / speaker).mkdir(parents=True)
        for number in numbers:
            name = f"{speaker}_{number:03}"
            (root / "txt" / speaker / f"{name}.txt").write_text(f" Sentence  {number}.\n", encoding="utf-8")
            for microphone in (1, 2)[: ending.count("{}") + 1]:
                file = root / folder / speaker / (name + ending.format(microphone))
                soundfile.write(file, speech(0.2 * microphone), RATE)
    return str(root)


def items(dataset, **options):
    return Split("all", [dataset], lambda record, waveform, generator: {"waveform": waveform}, RATE, **options)


def test_parts_share_no_sentence_and_are_everything(tmp_path):
    root = vctk(tmp_path)
    parts = {part: VCTK(root, part) for part in ("train", "val", "test", "all")}
    ids = {part: [r.utterance_id for r in dataset.records] for part, dataset in parts.items()}
    assert ids["val"] == ["p225_010", "p225_030", "p226_010", "p226_030"]
    assert ids["test"] == ["p225_020", "p225_040", "p226_020", "p226_040"]
    assert sorted(ids["train"] + ids["val"] + ids["test"]) == ids["all"]
    record = parts["val"].records[2]
    assert (record.text, record.speaker) == ("Sentence 10.", "p226")
    assert record.audio_path.endswith("wav48_silence_trimmed/p226/p226_010_mic1.flac")
    numbers = {part: {r.utterance_id[-3:] for r in dataset.records} for part, dataset in parts.items()}
    assert not numbers["train"] & numbers["val"]


def test_either_microphone_and_older_releases(tmp_path):
    root = vctk(tmp_path, numbers=[1])
    assert VCTK(root, "all").records[0].duration == pytest.approx(0.2)
    assert VCTK(root, "all", microphone=2).records[0].duration == pytest.approx(0.4)
    old = VCTK(vctk(tmp_path / "old", "wav48", ".wav", numbers=[1, 2]), "all")
    assert [r.utterance_id for r in old.records] == ["p225_001", "p225_002", "p226_001", "p226_002"]
    with pytest.raises(DataError, match=r"no recordings of 'all' by microphone 2 of \['p225', 'p226'\]"):
        VCTK(str(tmp_path / "old"), "all", microphone=2)


def test_one_sentence_in_two_formats_is_one_utterance(tmp_path):
    root = vctk(tmp_path, speakers=["p225"], numbers=[1])
    soundfile.write(tmp_path / "wav48_silence_trimmed" / "p225" / "p225_001_mic1.wav", speech(0.2), RATE)
    (record,) = VCTK(root, "all").records
    assert record.audio_path.endswith("p225_001_mic1.wav")


def test_chosen_speakers(tmp_path):
    root = vctk(tmp_path, speakers=["p225", "p226", "p227"], numbers=[1, 2])
    assert [r.speaker for r in VCTK(root, "all", speakers=["p227", "p225"]).records] == ["p227"] * 2 + ["p225"] * 2
    with pytest.raises(ConfigError) as caught:
        VCTK(root, "all", speakers=["p22", "225", "p226"])
    assert len(str(caught.value).splitlines()) == 2
    assert "Did you mean 'p22" in str(caught.value)
    with pytest.raises(DataError, match=r"no recordings of 'val' by microphone 1 of \['p226'\]"):
        VCTK(root, "val", speakers=["p226"])


def test_chosen_sentences(tmp_path):
    root = vctk(tmp_path, numbers=range(1, 13))
    picked = VCTK(root, "all", sentences=[2, 10]).records
    assert [r.utterance_id for r in picked] == ["p225_002", "p225_010", "p226_002", "p226_010"]
    assert [r.utterance_id for r in VCTK(root, "val", sentences=[2, 10]).records] == ["p225_010", "p226_010"]
    with pytest.raises(DataError, match=r"no recordings of 'train' among sentences \[10\]"):
        VCTK(root, "train", sentences=[10])


def test_recordings_without_transcripts(tmp_path, caplog):
    root = vctk(tmp_path, numbers=[1, 2])
    (tmp_path / "txt" / "p226" / "p226_002.txt").unlink()
    dataset = VCTK(root, "all")
    assert [r.text for r in dataset.records] == ["Sentence 1.", "Sentence 2.", "Sentence 1.", None]
    assert "1 recordings have no transcript (first: p226_002)" in caplog.text
    assert len(items(dataset, needs_text=True)) == 3
    (tmp_path / "txt" / "p225" / "p225_001.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"p225_001\.txt, line 1: cannot be read"):
        VCTK(root, "all")


def test_a_missing_corpus_is_named(tmp_path):
    with pytest.raises(DataError, match=r"expected the folder .*wav48_silence_trimmed, which does not exist"):
        VCTK(str(tmp_path), "all")


def test_silence_is_trimmed_while_reading(tmp_path):
    root = vctk(tmp_path, speakers=["p225"], numbers=[1])
    file = tmp_path / "wav48_silence_trimmed" / "p225" / "p225_001_mic1.flac"
    soundfile.write(file, speech(0.5, before=1.0, after=0.7), RATE)
    plain = VCTK(root, "all")
    assert items(plain)[0]["waveform"].shape == (2.2 * RATE,)
    trimmed = VCTK(root, "all", trim_db=40, trim_margin=0.1)
    waveform = items(trimmed)[0]["waveform"]
    # Half a window reaches beyond the sound at either end.
    assert waveform.shape[0] == pytest.approx(0.7 * RATE, abs=0.03 * RATE)
    whole, edge = items(plain)[0]["waveform"], round(0.9 * RATE)
    starts = range(edge - 200, edge + 200)
    assert any(torch.equal(waveform, whole[start : start + len(waveform)]) for start in starts)
    # Whoever caches what was read must be able to tell the two apart.
    assert trimmed.records[0].extra != plain.records[0].extra
    # Nothing but the trimming may make a recording shorter than its header says.
    assert plain.shortens is False


def test_bounds_against_the_definition():
    generator = torch.Generator().manual_seed(0)
    window, step = 320, 80
    for _ in range(20):
        n = int(torch.randint(400, 5000, (), generator=generator))
        envelope = torch.rand(n // 400 + 1, generator=generator).repeat_interleave(400)[:n] ** 8
        waveform = torch.randn(n, generator=generator) * envelope
        squares = waveform.double() ** 2
        centers = range(0, n + step, step)
        power = [squares[max(0, c - window // 2) : max(0, c + window // 2)].sum().item() / window for c in centers]
        loud = [c for c, p in zip(centers, power, strict=True) if p > max(power) * 1e-3]
        expected = (max(0, min(loud[0] - 160, n - 1)), min(n, loud[-1] + 161))
        assert speech_bounds(waveform, RATE, threshold_db=30, margin=0.01) == expected


def test_bounds_of_nothing():
    assert speech_bounds(torch.zeros(1000), RATE, 40, 0.0) == (0, 1000)
    assert speech_bounds(torch.zeros(0), RATE, 40, 0.0) == (0, 0)
    assert speech_bounds(torch.ones(1), RATE, 40, 0.0) == (0, 1)
    start, end = speech_bounds(torch.cat([torch.zeros(999), torch.ones(1)]), RATE, 40, 0.0)
    assert 0 <= start < end <= 1000


def test_real_recordings(real_data):
    root = str(real_data / "VCTK-Corpus-0.92")
    dataset = VCTK(root, "all", trim_db=40)
    assert len(dataset) == 40
    assert sorted({r.speaker for r in dataset.records}) == ["p225", "p226", "p227", "p228"]
    assert all(r.text for r in dataset.records)
    split = items(dataset)
    shorter = [split[i]["waveform"].shape[0] / RATE / split.records[i].duration for i in range(0, 40, 5)]
    assert all(0.3 < share <= 1 for share in shorter)
