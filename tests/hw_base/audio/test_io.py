import io
import math
import os
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from hw_base.audio import io as audio
from hw_base.errors import DataError
from tests.conftest import SHARED

soundfile = pytest.importorskip("soundfile")
DATA = SHARED / "data"


def real(pattern: str) -> Path:
    found = sorted(DATA.glob(pattern))
    if not found:
        pytest.skip(f"no {pattern} in {DATA}")
    return found[0]


def tone(rate: int = 16000, seconds: float = 0.5, hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)


def write_wav(path: Path, width: int, frames: bytes, rate: int = 8000, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(frames)
    return path


@pytest.mark.parametrize(("extension", "tolerance"), [("wav", 1e-4), ("flac", 1e-4), ("ogg", 0.05), ("mp3", 0.05)])
def test_formats(tmp_path, extension, tolerance):
    path = tmp_path / f"a b ü.{extension}"
    soundfile.write(path, tone(), 16000)
    waveform, rate = audio.load(path)
    assert rate == 16000
    assert waveform.dtype == torch.float32
    assert waveform.shape == (8000,)
    middle = slice(2000, 6000)
    assert (waveform[middle] - torch.from_numpy(tone()).float()[middle]).abs().max() < tolerance
    assert audio.info(path) == (8000, 16000, 1)
    assert audio.info(path).duration == 0.5


def test_eight_bits(tmp_path):
    path = write_wav(tmp_path / "a.wav", 1, bytes([0, 64, 128, 192, 255]))
    waveform, rate = audio.load(path)
    assert rate == 8000
    assert waveform.tolist() == [-1.0, -0.5, 0.0, 0.5, 127 / 128]


def test_channels_become_their_mean(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, (1000, 8))
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="DOUBLE")
    waveform, _ = audio.load(tmp_path / "a.wav")
    assert torch.allclose(waveform, torch.from_numpy(samples.mean(axis=1)).float(), atol=1e-6)
    assert audio.info(tmp_path / "a.wav").n_channels == 8


def test_content_not_extension_names_the_format(tmp_path):
    encoded = io.BytesIO()
    soundfile.write(encoded, tone(), 16000, format="MP3")
    (tmp_path / "a.wav").write_bytes(encoded.getvalue())
    assert audio.load(tmp_path / "a.wav")[0].shape == (8000,)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(8000, 16000), (44100, 16000), (22050, 16000), (16000, 22050)])
def test_resampling_keeps_a_tone(from_rate, to_rate):
    waveform = torch.from_numpy(tone(from_rate, hz=1000.0)).float()
    expected = torch.from_numpy(tone(to_rate, hz=1000.0)).float()
    resampled = audio.resample(waveform, from_rate, to_rate)
    assert len(resampled) == math.ceil(len(waveform) * to_rate / from_rate)
    middle = slice(len(expected) // 4, 3 * len(expected) // 4)
    assert (resampled[middle] - expected[middle]).abs().max() < 2e-3


def test_resampling_removes_what_the_new_rate_cannot_hold():
    waveform = torch.from_numpy(tone(16000, hz=6000.0)).float()
    assert audio.resample(waveform, 16000, 8000)[500:3500].abs().max() < 5e-3


def test_resampling_equals_torchaudio():
    functional = pytest.importorskip("torchaudio.functional")
    waveform = torch.randn(3, 2000, generator=torch.Generator().manual_seed(0))
    expected = functional.resample(waveform.double(), 22050, 16000).float()
    assert torch.allclose(audio.resample(waveform, 22050, 16000), expected, atol=1e-4)
    assert audio.resample(waveform, 16000, 16000) is waveform


def test_load_at_a_rate(tmp_path):
    soundfile.write(tmp_path / "a.flac", tone(8000), 8000)
    waveform, rate = audio.load(tmp_path / "a.flac", 16000)
    assert rate == 16000
    assert torch.equal(waveform, audio.resample(audio.load(tmp_path / "a.flac")[0], 8000, 16000))


@pytest.mark.parametrize("extension", ["wav", "flac"])
def test_save(tmp_path, extension):
    waveform = torch.tensor([0.0, 0.25, -0.5, 3.0, -3.0])
    audio.save(tmp_path / "new" / f"a.{extension}", waveform, 16000)
    loaded, rate = audio.load(tmp_path / "new" / f"a.{extension}")
    assert rate == 16000
    assert torch.allclose(loaded, torch.tensor([0.0, 0.25, -0.5, 1.0, -1.0]), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "waveform", "message"),
    [
        ("a.wav", torch.tensor([0.0, math.nan]), "NaN"),
        ("a.wav", torch.zeros(1, 5), r"\(1, 5\)"),
        ("a.unknown", torch.zeros(5), "cannot be written"),
    ],
)
def test_save_refuses(tmp_path, name, waveform, message):
    with pytest.raises(DataError, match=message):
        audio.save(tmp_path / name, waveform, 16000)


def damaged(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.flac"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "html":
        path.write_text("\n<!DOCTYPE html><html><body>404 Not Found</body></html>")
    elif kind == "lfs":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "folder":
        path.mkdir()
    elif kind == "truncated":
        soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, 50000), 16000)
        path.write_bytes(path.read_bytes()[:40000])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "there is no such audio file"),
        ("empty", r"empty \(0 bytes\)"),
        ("html", "a web page, not audio"),
        ("lfs", "Git LFS pointer"),
        ("noise", "cannot be decoded as audio"),
        ("folder", "found a folder"),
        ("truncated", "cannot be decoded as audio"),
    ],
)
def test_damaged_files_give_one_clear_line(tmp_path, kind, message):
    path = damaged(tmp_path, kind)
    with pytest.raises(DataError, match=message) as caught:
        audio.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    if kind != "truncated":
        with pytest.raises(DataError, match=message):
            audio.info(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 16000)
    (tmp_path / "a.wav").chmod(0)
    with pytest.raises(DataError, match="cannot be opened"):
        audio.load(tmp_path / "a.wav")


def test_header_only(tmp_path):
    path = write_wav(tmp_path / "a.wav", 2, b"")
    assert audio.info(path).duration == 0.0
    assert audio.load(path, 16000)[0].shape == (0,)


def test_header_that_lies_about_its_length(tmp_path):
    path = write_wav(tmp_path / "a.wav", 2, b"\1\0" * 1000)
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", 2_000_000)
    path.write_bytes(content)
    for read in (audio.load, audio.info):
        with pytest.raises(DataError, match=r"a\.wav: truncated: 0\.12 s of audio where its header says 125\.00 s"):
            read(path)


@pytest.mark.parametrize(
    ("pattern", "rate", "channels"),
    [
        ("LibriSpeech/train-clean-100/*/*/*.flac", 16000, 1),
        ("LibriSpeech/dev-clean/*/*/*.mp3", 16000, 1),
        ("free-spoken-digit-dataset/recordings/*.wav", 8000, 1),
    ],
)
def test_real_files(pattern, rate, channels):
    path = real(pattern)
    waveform, found = audio.load(path)
    assert found == rate
    assert audio.info(path) == (len(waveform), rate, channels)
    assert 0.01 < waveform.abs().max() <= 1.05


def test_real_room_response_with_eight_channels():
    real("noise_rir/rir/*")
    paths = [path for path in DATA.glob("noise_rir/rir/*.*") if audio.info(path).n_channels == 8]
    samples, _ = soundfile.read(paths[0])
    waveform, _ = audio.load(paths[0])
    assert torch.allclose(waveform, torch.from_numpy(samples.mean(axis=1)).float(), atol=1e-6)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44101, 16000), (16001, 22050), (999983, 16000), (1009, 16000)])
def test_rates_without_a_common_divisor(from_rate, to_rate):
    """The exact filter of 44101 to 16000 would have 706 million numbers; a tone tells whether the time is right."""
    hz, seconds = 100.0, 1.0
    sine = torch.sin(2 * math.pi * hz * torch.arange(int(from_rate * seconds), dtype=torch.float64) / from_rate)
    resampled = audio.resample(sine.float(), from_rate, to_rate)
    assert abs(len(resampled) - to_rate * seconds) <= 1
    expected = torch.sin(2 * math.pi * hz * torch.arange(len(resampled), dtype=torch.float64) / to_rate)
    inside = slice(to_rate // 10, -to_rate // 10)
    assert (resampled.double() - expected)[inside].abs().max() < 0.01


def test_what_is_no_file_is_not_opened(tmp_path):
    """A pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe.wav")
    for use in (audio.load, audio.info):
        with pytest.raises(DataError, match="a folder or a device"):
            use(tmp_path / "pipe.wav")
        with pytest.raises(DataError, match="no such audio file"):
            use(str(tmp_path / ("x" * 300)))
        with pytest.raises(DataError, match="no such audio file"):
            use("a\0b.wav")


@pytest.mark.parametrize("rate", [0, 1, 999, 1_000_001, 2_000_000_000])
def test_a_rate_that_cannot_be_is_refused(tmp_path, rate):
    path = write_wav(tmp_path / "x.wav", 2, bytes(3200))
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", rate)
    path.write_bytes(content)
    for use in (audio.load, audio.info):
        with pytest.raises(DataError, match=r"x\.wav: cannot be (used|decoded) as audio"):
            use(path)


def test_a_flac_of_unknown_length_is_decoded_to_find_it(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, tone(seconds=2.0), 16000)
    whole, _ = audio.load(path)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)  # as encoders write into a pipe
    path.write_bytes(content)
    assert audio.info(path) == (32000, 16000, 1)
    assert torch.equal(audio.load(path)[0], whole)
    assert torch.equal(audio.load(path, segment=(0.5, 1.0))[0], whole[8000:24000])


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "opus"])
def test_a_file_cut_in_half_is_named(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16000 * 20)
    arguments = {"format": "OGG", "subtype": "OPUS"} if extension == "opus" else {}
    soundfile.write(path, noise, 16000, **arguments)
    assert audio.info(path).duration == pytest.approx(20.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"a\.\w+: (truncated: |cannot be decoded)"):
        audio.load(path)


@pytest.mark.parametrize("size", [0x7FFFFFFF - 36, 0xFFFFFFFF])
def test_a_wave_file_from_a_pipe_is_read_to_its_end(tmp_path, size):
    path = write_wav(tmp_path / "a.wav", 2, b"\1\0" * 1000)
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", size)
    path.write_bytes(content)
    assert audio.load(path)[0].shape == (1000,)


def test_a_wave_file_with_more_audio_than_its_header_says_is_named(tmp_path):
    path = write_wav(tmp_path / "a.wav", 2, b"\1\0" * 40000)
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", 8000)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"its header says 0\.50 s, but 5\.00 s of audio follow"):
        audio.load(path)


def test_chunks_behind_the_samples_are_not_taken_for_audio(tmp_path):
    path = write_wav(tmp_path / "a.wav", 2, b"\1\0" * 1000)
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", 40000) + bytes(40000))
    assert audio.load(path)[0].shape == (1000,)


@pytest.mark.parametrize("value", [1e20, -32768.0, math.nan, math.inf])
def test_levels_that_are_no_sound_are_refused(tmp_path, value):
    samples = tone().astype(np.float32)
    samples[100] = value
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"a\.wav: samples (of up to|are NaN or infinite)"):
        audio.load(tmp_path / "a.wav")
    samples[100] = 3.0
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    assert audio.load(tmp_path / "a.wav")[0].max() == 3.0


def test_a_segment_is_read_alone(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(), 16000)
    whole, _ = audio.load(tmp_path / "a.wav")
    assert torch.equal(audio.load(tmp_path / "a.wav", segment=(0.1, 0.2))[0], whole[1600:4800])
    assert torch.equal(audio.load(tmp_path / "a.wav", segment=(0.4, 9.0))[0], whole[6400:])
    assert audio.load(tmp_path / "a.wav", segment=(0.6, 0.2))[0].shape == (0,)
