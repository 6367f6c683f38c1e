"""Bad audio and bad transcripts through the real command line: skipped and named, or one clear error; never a crash."""

import json
import math
import os
import shutil

import numpy as np
import pytest
import soundfile
import torch

import test as test_script
import train as train_script
from hw_asr.losses.ctc import CTCLoss
from hw_base import checkpoint
from tests.conftest import ROOT

TINY = str(ROOT / "configs" / "tiny" / "ds2.json")
RATE = 16000


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def speech(seconds=1.0, rate=RATE):
    return np.random.default_rng(0).uniform(-0.3, 0.3, int(seconds * rate))


def good(path, samples=None, rate=RATE, **options):
    soundfile.write(path, speech(rate=rate) if samples is None else samples, rate, **options)


def cut(path, name, share=0.5, **options):
    """A file whose end is missing, as its container's header does not know."""
    whole = path.with_name("whole." + name.rpartition(".")[2])
    good(whole, **options)
    content = whole.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    whole.unlink()


def damaged_flac(path):
    good(path, format="FLAC")
    content = bytearray(path.read_bytes())
    for place in range(len(content) // 2, len(content) // 2 + 400):
        content[place] ^= 0xFF
    path.write_bytes(content)


def wav_of_rate(rate):
    def write(path):
        good(path)
        content = bytearray(path.read_bytes())
        content[24:28] = rate.to_bytes(4, "little")
        path.write_bytes(content)

    return write


def wav_of_size(size):
    """Whose header says so many bytes of samples."""

    def write(path):
        good(path)
        content = bytearray(path.read_bytes())
        content[40:44] = size.to_bytes(4, "little")
        path.write_bytes(content)

    return write


def with_value(value):
    def write(path):
        samples = speech()
        samples[5000] = value
        good(path, samples, subtype="FLOAT")

    return write


HTML = b"<!DOCTYPE html><html><title>404 Not Found</title></html>" * 50

# Name of the file -> how it is made, and the words in which it must be reported.
BAD_AUDIO = {
    "zero_bytes.wav": (lambda p: p.write_bytes(b""), "the file is empty"),
    "header_only.wav": (lambda p: good(p, np.zeros(0)), "its duration is 0 s|of no duration"),
    "one_sample.wav": (lambda p: good(p, np.ones(1) * 0.1), "shorter than|less than min_seconds"),
    "half.flac": (lambda p: cut(p, "half.flac", format="FLAC"), "truncated|cannot be decoded"),
    "bits.flac": (damaged_flac, "truncated|cannot be decoded"),
    "page.flac": (lambda p: p.write_bytes(HTML), "a web page, not audio"),
    "noise.mp3": (lambda p: p.write_bytes(bytes(range(256)) * 20), "cannot be decoded|shorter than|silence|truncated"),
    "text.wav": (lambda p: p.write_text("not audio at all\n" * 99), "cannot be decoded"),
    "nan.wav": (with_value(math.nan), "NaN or infinite"),
    "inf.wav": (with_value(math.inf), "NaN or infinite"),
    "silent.wav": (lambda p: good(p, np.zeros(RATE)), "nothing but silence"),
    "missing.wav": (lambda p: None, "No such file|no such audio file"),
    "folder.wav": (lambda p: p.mkdir(), "a folder or a device"),
    "pipe.wav": (lambda p: os.mkfifo(p), "a folder or a device"),
    "loop.wav": (lambda p: p.symlink_to(p), "symbolic links|no such audio file"),
    "device.wav": (lambda p: p.symlink_to("/dev/zero"), "a folder or a device"),
    "claims_more.wav": (wav_of_size(10**9), "truncated: 1.00 s of audio where its header says 31250.00 s"),
    "rate_1.wav": (wav_of_rate(1), "1 Hz"),
    "rate_2_billion.wav": (wav_of_rate(2_000_000_000), "2000000000 Hz|cannot be decoded"),
}

# Whose durations are taken from the manifest, as of a corpus whose files were damaged later.
LYING = {
    "half.wav": (lambda p: cut(p, "half.wav"), "truncated: 0.50 s of audio where its header says 1.00 s"),
    "gone.wav": (lambda p: None, "no such audio file"),
    "empty_now.wav": (lambda p: good(p, np.zeros(0)), "no samples"),
    "page_now.flac": (lambda p: p.write_bytes(HTML), "a web page, not audio"),
    "pipe_now.wav": (lambda p: os.mkfifo(p), "a folder or a device"),
    "x" * 300 + ".wav": (lambda p: None, "no such audio file"),
}

BAD_TEXT = {
    "empty": ("", "without text"),
    "blanks": (" \t\n\u00a0 ", "without text"),
    "none": (None, "without text"),
    "foreign": ("\u65e5\u672c\u8a9e 12 %", "has no letter in it"),
    "emoji": ("\U0001f600\u202e\u0000\u0301", "has no letter in it"),
    "long": ("abcdefghi " * 10_000, "frames and the model gives"),
    "repeats": ("a" * 60, "frames and the model gives"),
}

GOOD_AUDIO = {
    "eight_channels.wav": lambda p: good(p, np.stack([speech()] * 8, axis=1)),
    "eight_bits.wav": lambda p: good(p, subtype="PCM_U8"),
    "a_law.wav": lambda p: good(p, subtype="ALAW"),
    "bits_24.wav": lambda p: good(p, subtype="PCM_24"),
    "double.wav": lambda p: good(p, subtype="DOUBLE"),
    "clipped.wav": lambda p: good(p, np.clip(speech() * 9, -1, 1)),
    "constant.wav": lambda p: good(p, np.full(RATE, 0.5)),
    "rate_8000.wav": lambda p: good(p, rate=8000),
    "rate_44101.wav": lambda p: good(p, rate=44101),
    "rate_192000.flac": lambda p: good(p, rate=192000),
    "really_mp3.wav": lambda p: good(p, format="MP3"),
    "from_a_pipe.wav": wav_of_size(0xFFFFFFFF),
    "really_wav.mp3": lambda p: good(p, format="WAV"),
}
GOOD_TEXT = {"plain": "hello there", "accents": "Cr\u00e8me br\u00fbl\u00e9e\r\n", "mixed": "ab \u65e5 c\u0000d \u202e"}


def manifest(folder, bad=None, copies=3):
    """A corpus of good utterances, with at most one bad one or all of them; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    good(folder / "good.wav")
    lines = [{"audio_path": "good.wav", "text": "hello", "utterance_id": f"good-{i}"} for i in range(copies)]
    for kind, table in (("audio", BAD_AUDIO), ("lying", LYING), ("text", BAD_TEXT)):
        for name, (made, _) in table.items():
            if bad not in (name, "everything"):
                continue
            if kind == "text":
                lines.append({"audio_path": "good.wav", "text": made, "utterance_id": name})
                continue
            made(folder / name)
            lines.append({"audio_path": name, "text": "hello", "utterance_id": name[:40]})
            if kind == "lying":
                lines[-1]["duration"] = 1.0
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def train(path, run_dir, *sets):
    flags = [f'data.train.datasets=[{{"type": "Manifest", "args": {{"path": "{path}"}}}}]', "data.val.limit=1"]
    flags += ["augmentations=[]", "trainer.max_steps=null", "trainer.epochs=1", "trainer.eval_every=100", *sets]
    arguments = ["-c", TINY, "-d", "cpu", "--run-dir", str(run_dir)]
    return train_script.main(arguments + [part for flag in flags for part in ("--set", flag)])


def errors(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize("workers", [0, 2])
def test_under_skip_everything_bad_is_named_and_the_run_ends_well(tmp_path, capsys, workers):
    path = manifest(tmp_path / "data", "everything", copies=20)
    sets = ["data.train.on_bad_data=skip", f"data.train.workers={workers}", "data.train.batch_size=3"]
    assert train(path, tmp_path / "run", *sets) == 0
    said = capsys.readouterr().err
    log = (tmp_path / "run" / "train.log").read_text()
    for table in (BAD_AUDIO, LYING, BAD_TEXT):
        counted = {"empty", "blanks", "none", "header_only.wav", "one_sample.wav"}  # by number and first name
        unnamed = [name for name in table if name[:40] not in log and name not in counted]
        assert not unnamed, said
    assert "dropped 3 without text (first: empty)" in log
    assert "unreadable" in log
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [row["ctc"] for row in rows if row["split"] == "train" and "ctc" in row]
    assert losses
    assert all(isinstance(loss, float) and math.isfinite(loss) for loss in losses)
    state = checkpoint.load(checkpoint.newest_good(tmp_path / "run"))
    assert all(bool(torch.isfinite(weights).all()) for weights in state["model"].values())
    assert state["guard"]["skipped"] == 0


ALL = {**BAD_AUDIO, **LYING, **BAD_TEXT}
# Dropped by the limits of the split whatever on_bad_data says, and reported.
LIMITED = {"empty", "blanks", "none", "one_sample.wav"}


@pytest.mark.parametrize("name", sorted(ALL.keys() - LIMITED), ids=lambda name: name[:20])
def test_under_fail_there_is_one_clear_error(tmp_path, capsys, name):
    path = manifest(tmp_path / "data", name)
    assert train(path, tmp_path / "run", "data.train.on_bad_data=fail") == 2
    found = errors(capsys)
    assert len(found) == 1
    assert repr(name[:40]) in found[0]
    assert any(words in found[0] for words in ALL[name][1].split("|")), found[0]
    assert "Traceback" not in found[0]


@pytest.mark.parametrize("workers", [1])
def test_an_error_in_a_worker_is_the_same_line(tmp_path, capsys, workers):
    path = manifest(tmp_path / "data", "nan.wav")
    assert train(path, tmp_path / "run", f"data.train.workers={workers}") == 2
    found = errors(capsys)
    assert len(found) == 1
    assert "utterance 'nan.wav'" in found[0]
    assert "NaN or infinite" in found[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_was_trained_before_a_bad_utterance_is_saved(tmp_path, capsys, workers):
    path = manifest(tmp_path / "data", "half.wav", copies=12)
    sets = ["data.train.on_bad_data=fail", "data.train.batch_size=1", f"data.train.workers={workers}"]
    assert train(path, tmp_path / "run", *sets, "seed=2") == 2
    saved = checkpoint.newest_good(tmp_path / "run")
    state = checkpoint.load(saved)
    assert state["step"] > 0
    (tmp_path / "data" / "half.wav").unlink()
    good(tmp_path / "data" / "half.wav")
    assert train_script.main(["--run-dir", str(tmp_path / "run"), "-r", "auto", "-d", "cpu"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if row["split"] == "train" and "ctc" in row]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("name", sorted(LIMITED))
def test_what_the_limits_drop_is_reported(tmp_path, capsys, name):
    path = manifest(tmp_path / "data", name)
    assert train(path, tmp_path / "run") == 0
    said = capsys.readouterr().err
    assert "dropped 1 " in said
    assert name in said
    assert any(words in said for words in ALL[name][1].split("|"))


def test_nothing_good_at_all_is_one_error(tmp_path, capsys):
    path = manifest(tmp_path / "data", "silent.wav", copies=0)
    assert train(path, tmp_path / "run", "data.train.on_bad_data=skip") == 2
    assert "1 utterances in a row cannot be used" in errors(capsys)[0]


def test_unusual_but_good_input_trains(tmp_path, capsys):
    folder = tmp_path / "data"
    path = manifest(folder)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for name, write in GOOD_AUDIO.items():
        write(folder / name)
        lines.append({"audio_path": name, "text": "hello", "utterance_id": name})
    lines += [{"audio_path": "good.wav", "text": text, "utterance_id": name} for name, text in GOOD_TEXT.items()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert train(path, tmp_path / "run", "data.train.on_bad_data=fail") == 0
    said = capsys.readouterr().err
    assert f"train: {len(lines)} utterances" in said
    assert "dropped" not in said
    assert "symbols outside the vocabulary are left out" in said


# ---------------------------------------------------------------- evaluation


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    assert train(manifest(folder / "data"), folder / "run") == 0
    return checkpoint.numbered(folder / "run")[0]


def recordings(folder):
    """Everything bad as a folder of recordings and transcripts."""
    (folder / "audio").mkdir(parents=True)
    (folder / "transcriptions").mkdir()
    texts = {}
    for name, (write, _) in BAD_AUDIO.items():
        write(folder / "audio" / name)
        texts[name.rpartition(".")[0]] = "hello"
    for name, (text, _) in BAD_TEXT.items():
        good(folder / "audio" / f"{name}.wav")
        texts[name] = text
    for name, text in texts.items():
        if text is not None and "\0" not in text:
            (folder / "transcriptions" / f"{name}.txt").write_text(text, encoding="utf-8")
    return folder


def test_a_folder_of_bad_recordings_is_recognized_as_far_as_it_goes(model, tmp_path, capsys):
    folder = recordings(tmp_path / "data")
    output = tmp_path / "output.json"
    arguments = ["-r", str(model), "-d", "cpu", "-t", str(folder), "-o", str(output)]
    assert test_script.main([*arguments, "--set", "data.test.on_bad_data=skip", "-b", "4"]) == 0
    said = capsys.readouterr().err
    rows = {row["id"]: row for row in json.loads(output.read_text())}
    expected = {*BAD_TEXT, "silent"}
    assert expected <= rows.keys() <= expected | {"noise"}
    for name in BAD_AUDIO:
        if name.partition(".")[0] not in rows:
            assert name.partition(".")[0] in said or name in ("header_only.wav", "one_sample.wav", "missing.wav")
    figures = json.loads((tmp_path / "metrics.json").read_text())["output.json"]["splits"]["test"]
    assert all(math.isfinite(value) for value in figures.values())
    for file in (folder / "audio").iterdir():
        if file.name not in ("nan.wav", "silent.wav"):
            shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()
    assert test_script.main(arguments) == 2
    found = errors(capsys)
    assert len(found) == 1
    assert "test: utterance 'nan'" in found[0]


# ---------------------------------------------------------------- the loss itself


def test_a_target_of_100000_tokens_costs_no_more_than_its_frames():
    """Its table would have 4 x 50 x 200 001 numbers; and the others' losses are what they are without it."""
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(4, 50, 28, generator=generator).log_softmax(-1).requires_grad_()
    tokens = torch.randint(1, 28, (4, 100_000), generator=generator)
    frames, names = torch.full((4,), 50), list("abcd")
    loss = CTCLoss()
    lengths = torch.tensor([5, 100_000, 7, 9])
    mean = loss(log_probs, frames, tokens, lengths, names)
    kept = [0, 2, 3]
    alone = loss(log_probs[kept], frames[kept], tokens[kept, :9], lengths[kept], list("acd"))
    torch.testing.assert_close(mean.total, alone.total)
    assert (int(mean.count), int(loss.skipped_count)) == (3, 1)
    (gradient,) = torch.autograd.grad(mean.total, log_probs)
    assert torch.isfinite(gradient).all()
    assert not gradient[1].any()
