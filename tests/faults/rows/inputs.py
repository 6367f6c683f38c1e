"""Recordings and transcripts that are damaged, odd or hostile, each through the whole command line."""

import json
import os
import struct

import numpy as np

from hw_base import checkpoint
from tests.faults.said import output_of
from tests.faults.table import row
from tests.hw_asr import test_bad_input as known
from tests.hw_asr.test_bad_input import RATE, cut, good, speech


def changed_bytes(**options):
    """A good file with bytes in the middle turned around."""

    def write(path):
        good(path, **options)
        content = bytearray(path.read_bytes())
        for place in range(len(content) // 3, len(content) // 3 + 64):
            content[place] ^= 0xFF
        path.write_bytes(content)

    return write


def header(place, form, value):
    """A wave file with another number in its header."""

    def write(path):
        good(path)
        content = bytearray(path.read_bytes())
        struct.pack_into(form, content, place, value)
        path.write_bytes(content)

    return write


def level(value):
    return lambda path: good(path, np.full(RATE, value), subtype="FLOAT")


def one_sample_of(value):
    return known.with_value(value)


# Beside those that the tests of recognition know: what is good, what is bad, and what may be either.
AUDIO = {
    "level_1e20.wav": level(1e20),
    "level_1e-30.wav": level(1e-30),
    "level_minus_100.wav": level(-100.0),
    "sample_1e20.wav": one_sample_of(1e20),
    "sample_minus_inf.wav": one_sample_of(-np.inf),
    "all_nan.wav": level(np.nan),
    "zero_channels.wav": header(22, "<H", 0),
    "channels_65535.wav": header(22, "<H", 65535),
    "zero_bits.wav": header(34, "<H", 0),
    "bits_255.wav": header(34, "<H", 255),
    "unknown_codec.wav": header(20, "<H", 0x7777),
    "zero_rate.wav": header(24, "<I", 0),
    "negative_size.wav": header(40, "<i", -9),
    "riff_only.wav": lambda path: path.write_bytes(b"RIFF"),
    "wrong_magic.wav": header(0, "<I", 0),
    "flac_magic_only.flac": lambda path: path.write_bytes(b"fLaC"),
    "ogg_magic_only.ogg": lambda path: path.write_bytes(b"OggS" * 100),
    "half.ogg": lambda path: cut(path, "half.ogg", format="OGG"),
    "half.mp3": lambda path: cut(path, "half.mp3", format="MP3"),
    "bits.ogg": changed_bytes(format="OGG"),
    "bits.mp3": changed_bytes(format="MP3"),
    "bits.wav": changed_bytes(),
    "aiff.wav": lambda path: good(path, format="AIFF"),
    "raw.wav": lambda path: path.write_bytes((speech() * 32767).astype("<i2").tobytes()),
    "gzip.wav": lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(500)),
    "json.wav": lambda path: path.write_text(json.dumps({"error": "quota"})),
    "pointer.wav": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    "dangling.wav": lambda path: path.symlink_to(path.with_name("nowhere")),
    "socket.wav": lambda path: os.mknod(path, 0o140644),
    "rate_11025.wav": lambda path: good(path, rate=11025),
    "two_channels_opposite.wav": lambda path: good(path, np.stack([speech(), -speech()], 1)),
    "шум и ё.wav": lambda path: good(path),
}
ALL_AUDIO = {**{k: v[0] for k, v in {**known.BAD_AUDIO, **known.LYING}.items()}, **AUDIO, **known.GOOD_AUDIO}

TEXT = {
    "bom": "\ufeffhello", "crlf": "hello\r\nthere", "tabs": "hello\tthere", "line_separator": "hello\u2028there",
    "zero_byte": "hel\0lo", "escape": "\x1b[31mhello", "right_to_left": "\u202ehello", "combining": "e\u0301" * 30,
    "surrogate": "\ud800 hello", "emoji_only": "\U0001f600" * 9, "digits": "1234567890", "sign": "%$#@!",
    "cyrillic": "привет", "mixed_case": "HeLLo", "a_number": 7, "a_list": ["hello"], "an_object": {"a": 1},
    "true": True, "million": "x" * 1_000_000,
    "spaces_inside": "hello" + " " * 5000 + "there", "html": "<b>hello</b>",
    "format_string": "%s {0} {x!r} %(y)s", "path": "../../etc/passwd", "shell": "$(touch x); `touch y`",
}  # fmt: skip
ALL_TEXT = {**{k: v[0] for k, v in known.BAD_TEXT.items()}, **known.GOOD_TEXT, **TEXT}


def corpus(folder, line):
    """A manifest of eight good utterances and one more."""
    path = known.manifest(folder, copies=8)
    with path.open("a") as file:
        file.write(json.dumps({"utterance_id": "strange", **line}) + "\n")
    return path


def trained(trials, folder, line, policy):
    """Train on the corpus: to the end with all but perhaps the strange one, or refused in a line that names it."""
    run = folder / "run"
    code, said = output_of(lambda: known.train(corpus(folder / "data", line), run, f"data.train.on_bad_data={policy}"))
    assert "Traceback" not in said, said[-2000:]
    assert code in (0, 2), f"exit code {code}"
    named = "strange" in said or "strange.wav" in said
    if code == 2:
        # What is examined before training may say it too, at once and for everything that it looked at.
        lines = [text for text in said.splitlines() if text.startswith("error: ")]
        errors = [text for text in lines if not text.startswith("error: preflight: ")]
        assert len(errors) == 1, errors
        assert named or "manifest.jsonl" in errors[0], errors  # a bad line of the list is named by its number
        # Whatever the policy, a list that says nonsense is refused as a whole.
        assert policy == "fail" or "manifest.jsonl" in errors[0], errors
        return
    state = checkpoint.load(checkpoint.newest_good(run))
    assert all(bool(weights.isfinite().all()) for weights in state["model"].values())
    assert state["guard"]["skipped"] == 0


def under_both_policies(trials, kinds, quick, line):
    """Train on each kind, or on some of them.

    Args:
        trials: of the row.
        kinds: what is wrong, by name.
        quick: which of them stand for all.
        line: folder of the data, name and kind -> the line of the manifest.
    """
    for name, kind in list(kinds.items())[slice(None) if trials.whole else quick]:
        for policy in ("fail", "skip"):
            with trials.trial(f"{name[:40]}, {policy}") as folder:
                (folder / "data").mkdir()
                trained(trials, folder, line(folder / "data", name, kind), policy)


@row(
    8,
    "70 kinds of recordings: cut, flipped, lying headers, NaN, 1e20, devices, odd formats",
    "used, or named and treated as `on_bad_data` says: one line and exit code 2, or skipped and counted",
)
def strange_audio(trials):
    def line(folder, name, write):
        write(folder / name) if len(name) < 250 else None
        return {"audio_path": name, "text": "hello", **({"duration": 1.0} if name in known.LYING else {})}

    under_both_policies(trials, ALL_AUDIO, slice(5, None, 12), line)


@row(
    9,
    "34 kinds of transcripts: empty, foreign, endless, control characters, other types",
    "used, or named and treated as `on_bad_data` says",
)
def strange_text(trials):
    lines = {name: {"audio_path": "good.wav", "text": text} for name, text in ALL_TEXT.items()}
    under_both_policies(trials, lines, slice(1, None, 11), lambda folder, name, line: line)
