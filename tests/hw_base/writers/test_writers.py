"""The record and TensorBoard; trackers that need an account have a file of their own, and so has the fan-out."""

import io
import json
import math
import os
import resource
import signal
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from hw_base.errors import MissingPackageError
from hw_base.registry import WRITERS
from hw_base.writers import JsonlWriter, TensorBoardWriter, read_rows
from hw_base.writers.base import without_home
from hw_base.writers.media import png_bytes, samples_of, wav_bytes
from tests.conftest import ROOT


def image(height=5, width=7):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


# ---------------------------------------------------------------------- media


def test_png_keeps_every_pixel():
    pillow = pytest.importorskip("PIL.Image", reason="Pillow reads the picture back")
    for shape in ((5, 7), (1, 1), (300, 2)):
        picture = image(*shape)
        assert np.array_equal(np.array(pillow.open(io.BytesIO(png_bytes(picture)))), picture)


def test_the_record_goes_on_without_pillow(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "PIL", None)
    writer = JsonlWriter(tmp_path / "metrics.jsonl")
    for step in (1, 2):
        writer.image("val/a", image(2, 3), step)
        writer.scalars({"val/b": 1.0}, step)
    writer.close()
    assert caplog.text.count("a picture needs the package 'pillow'") == 1
    assert [row["b"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1.0, 1.0]


@pytest.mark.parametrize("wrong", [np.zeros((3, 4), np.uint8), np.zeros((3, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_png_refuses_what_is_not_a_picture(wrong):
    with pytest.raises(ValueError, match=r"must be uint8 \(height, width, 3\)"):
        png_bytes(wrong)


def test_wav_keeps_the_level_and_clips():
    waveform = torch.tensor([0.0, 0.25, -0.25, 1.0, -3.0, math.nan, math.inf])
    with wave.open(io.BytesIO(wav_bytes(waveform, 16000))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
        samples = np.frombuffer(file.readframes(100), "<i2")
    assert samples.tolist() == [0, 8192, -8192, 32767, -32767, 0, 32767]
    with pytest.raises(ValueError, match=r"\(1, 4\)"):
        samples_of(torch.zeros(1, 4))


# ---------------------------------------------------------------------- the record


def test_scalars_make_one_line_for_each_split(tmp_path):
    writer = JsonlWriter(tmp_path / "run" / "metrics.jsonl")
    writer.scalars({"train/ctc": 1.5, "train/generator/mel": 2, "val/wer": torch.tensor(0.25)}, 10)
    writer.scalars({"speed": np.float32(3.0)}, 11)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines == [
        {"step": 10, "split": "train", "ctc": 1.5, "generator/mel": 2},
        {"step": 10, "split": "val", "wer": 0.25},
        {"step": 11, "split": "", "speed": 3.0},
    ]


def test_lines_are_strict_json_even_for_numbers_that_are_not_finite(tmp_path):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    writer = JsonlWriter(tmp_path / "m.jsonl")
    writer.scalars({"train/a": math.nan, "train/b": math.inf, "train/c": -math.inf}, 1)
    writer.table("val/t", ["x"], [[math.nan]], 1)
    lines = (tmp_path / "m.jsonl").read_text().splitlines()
    first, second = (json.loads(line, parse_constant=refuse) for line in lines)
    assert math.isnan(float(first["a"]))
    assert float(first["b"]) == math.inf
    assert float(first["c"]) == -math.inf
    assert second["rows"] == [["NaN"]]


def test_texts_tables_pictures_and_sounds_are_recorded(tmp_path):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow reads the picture back")
    writer = JsonlWriter(tmp_path / "m.jsonl")
    writer.table("val/predictions", ["target", "wer"], [["ёж | a\n", 0.5], ["b", 1]], 3)
    writer.text("train/note", "two\nlines \ud800", 3)
    writer.image("val/before/spec: a", image(), 3)
    writer.audio("val/../sound", torch.zeros(80), 8000, 3)
    table, text, picture, sound = read_rows(tmp_path / "m.jsonl")
    head = {"step": 3, "split": "val"}
    assert table == head | {"table": "predictions", "columns": ["target", "wer"], "rows": [["ёж | a\n", 0.5], ["b", 1]]}
    assert text["value"] == "two\nlines ?"
    assert picture == head | {"image": "before/spec: a", "file": "media/val/before_spec_a-00000003.png"}
    assert np.array_equal(np.array(pillow.open(tmp_path / picture["file"])), image())
    assert sound["file"] == "media/val/_sound-00000003.wav"
    assert (tmp_path / sound["file"]).stat().st_size == 44 + 160


def test_a_name_that_hides_the_line_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'train/step' cannot be recorded"):
        JsonlWriter(tmp_path / "m.jsonl").scalars({"train/step": 1.0}, 1)


def test_rows_after_a_checkpoint_are_dropped_and_writing_goes_on(tmp_path):
    path = tmp_path / "m.jsonl"
    writer = JsonlWriter(path)
    for step in range(10):
        writer.scalars({"train/a": step}, step)
    resumed = JsonlWriter(path)
    resumed.load_state_dict({}, 4)
    resumed.scalars({"train/a": 50.0}, 5)
    assert [row["step"] for row in read_rows(path)] == [0, 1, 2, 3, 4, 5]
    assert read_rows(path)[-1]["a"] == 50.0
    assert sorted(os.listdir(tmp_path)) == ["m.jsonl"]


def test_nothing_is_created_before_the_first_report(tmp_path):
    JsonlWriter(tmp_path / "run" / "m.jsonl").load_state_dict({}, 4)
    TensorBoardWriter(tmp_path / "run")
    assert os.listdir(tmp_path) == []


def test_half_a_line_of_a_killed_process_is_cut_off(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1, "split": "a"}\n{"step": 2, "spl')
    assert len(read_rows(path)) == 1
    JsonlWriter(path).scalars({"train/a": 1.0}, 3)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3]


def test_a_line_that_is_not_json_is_left_out_and_named(tmp_path, caplog):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1}\n\x00\x00\n[1]\n{"step": 2}\n')
    assert [row["step"] for row in read_rows(path)] == [1, 2]
    assert "m.jsonl:2 is not JSON" in caplog.text


def test_a_full_disk_leaves_whole_lines(tmp_path):
    """A file size limit makes the kernel write part of a line, as a full disk does."""
    path = tmp_path / "m.jsonl"
    writer = JsonlWriter(path)
    writer.scalars({"train/a": 1.0}, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, before[1]))
        for _ in range(2):
            with pytest.raises(OSError, match=r"only 10 of|too large"):
                writer.scalars({"train/a": 2.0}, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    writer.scalars({"train/a": 3.0}, 3)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3]


def test_kill_9_loses_no_line(tmp_path):
    script = (
        "import os, signal, sys; from hw_base.writers import JsonlWriter; w = JsonlWriter(sys.argv[1])\n"
        "for step in range(500): w.scalars({'train/a': step}, step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "m.jsonl")], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert [row["a"] for row in read_rows(tmp_path / "m.jsonl")] == list(range(500))


# ---------------------------------------------------------------------- TensorBoard


def events(folder):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="TensorBoard reads its files back"
    )
    loaded = accumulator.EventAccumulator(str(folder), size_guidance=dict.fromkeys(["images", "audio", "tensors"], 0))
    return loaded.Reload()


def test_tensorboard_files_hold_everything(tmp_path):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow reads the picture back")
    pytest.importorskip("tensorboard", reason="TensorBoardWriter needs it")
    writer = TensorBoardWriter(tmp_path)
    writer.scalars({"train/ctc": 1.5, "val/wer": math.nan}, 7)
    writer.audio("val/sound", torch.full((160,), 0.5), 16000, 7)
    writer.image("val/spectrogram", image(), 7)
    writer.text("val/text", "# not a head", 7)
    writer.table("val/rows", ["target", "wer"], [["a|b\nc", 0.123456]], 7)
    writer.close()
    loaded = events(tmp_path / "tensorboard")
    (ctc,) = loaded.Scalars("train/ctc")
    assert (ctc.step, ctc.value) == (7, 1.5)
    assert math.isnan(loaded.Scalars("val/wer")[0].value)
    picture = loaded.Images("val/spectrogram")[0].encoded_image_string
    assert np.array_equal(np.array(pillow.open(io.BytesIO(picture))), image())
    with wave.open(io.BytesIO(loaded.Audio("val/sound")[0].encoded_audio_string)) as sound:
        assert sound.getframerate() == 16000
        assert np.abs(np.frombuffer(sound.readframes(160), "<i2") - 16384).max() <= 1
    texts = {tag: loaded.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in loaded.Tags()["tensors"]}
    assert texts["val/text/text_summary"] == "    # not a head"
    assert texts["val/rows/text_summary"].splitlines()[-1] == "| a\\|b c | 0.1235 |"


def test_tensorboard_hides_what_was_reported_after_the_checkpoint(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoardWriter needs it")
    first = TensorBoardWriter(tmp_path)
    for step in range(1, 11):
        first.scalars({"train/a": 0.0}, step)
    first.close()
    resumed = TensorBoardWriter(tmp_path)
    resumed.load_state_dict({}, 6)
    resumed.scalars({"train/a": 1.0}, 8)
    resumed.close()
    points = [(point.step, point.value) for point in events(tmp_path / "tensorboard").Scalars("train/a")]
    assert points == [(1, 0.0), (2, 0.0), (3, 0.0), (4, 0.0), (5, 0.0), (6, 0.0), (8, 1.0)]


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingPackageError, match=r"TensorBoardWriter needs .*pip install tensorboard"):
        WRITERS["TensorBoardWriter"](tmp_path)


def test_home_is_not_told():
    home = Path.home()
    config = {"data": {"root": str(home / "corpora"), "parts": [home / "a", 3, None]}, "other": f"{home}x", "n": 1.5}
    assert without_home(config) == {
        "data": {"root": "~/corpora", "parts": ["~/a", 3, None]},
        "other": f"{home}x",
        "n": 1.5,
    }
