"""The course's vocoder homework: a folder of recordings said again."""

import pytest
import torch

from hw_base.audio import io as audio
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.resynthesize import main, recordings, resynthesize
from hw_tts.vocoders.loading import GriffinLim


def tone(n_samples, rate=22050):
    return 0.3 * torch.sin(2 * torch.pi * 220 * torch.arange(n_samples) / rate)


def test_a_folder_is_said_again_with_its_names_and_lengths(tmp_path, capsys):
    lengths = {"a.wav": 9000, "b.flac": 5001, "deep/c.wav": 40}
    for name, n_samples in lengths.items():
        audio.save(tmp_path / "in" / name, tone(n_samples), 22050)
    (tmp_path / "in" / "notes.txt").write_text("no audio")
    assert main(["--resynthesize", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-d", "cpu"]) == 0
    written = {str(p.relative_to(tmp_path / "out")): p for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert set(written) == {"a.wav", "b.wav", "deep/c.wav"}
    assert [len(audio.load(written[name])[0]) for name in ("a.wav", "b.wav", "deep/c.wav")] == [9000, 5001, 40]
    assert "3 recordings, 0.6 s, real-time factor" in capsys.readouterr().out


def test_another_rate_is_resampled_to_the_vocoders(tmp_path):
    audio.save(tmp_path / "in" / "a.wav", tone(8000, 16000), 16000)
    assert main(["--resynthesize", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-d", "cpu"]) == 0
    waveform, rate = audio.load(tmp_path / "out" / "a.wav")
    assert (rate, len(waveform)) == (22050, 11025)


def test_what_is_said_again_is_the_recording():
    features = TTSFeatures()
    waveform = tone(12000)
    again = resynthesize(GriffinLim(features), features, waveform)
    assert again.shape == waveform.shape
    spectrum, other = (torch.fft.rfft(x[2000:6410]).abs() for x in (waveform, again))
    assert spectrum.argmax() == other.argmax() == 44  # 220 Hz fall on a bin of 5 Hz
    spectrum, other = (torch.fft.rfft(x[2000:10000]).abs() for x in (waveform, again))
    assert other.max() == pytest.approx(spectrum.max().item(), rel=0.3)


def test_mistakes_end_with_one_line(tmp_path, capsys):
    def error(*arguments):
        assert main([*map(str, arguments), "-d", "cpu"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        return lines[0]

    out = ["-o", tmp_path / "out"]
    assert "no such folder" in error("--resynthesize", tmp_path / "none", *out)
    (tmp_path / "in").mkdir()
    assert "no audio in it" in error("--resynthesize", tmp_path / "in", *out)
    (tmp_path / "in" / "a.wav").write_bytes(b"")
    assert "a.wav: the file is empty" in error("--resynthesize", tmp_path / "in", *out)
    audio.save(tmp_path / "in" / "a.wav", tone(3000), 22050)
    assert "give another folder" in error("--resynthesize", tmp_path / "in", "-o", tmp_path / "in")
    assert "no such file" in error("-r", tmp_path / "no.pth", "--resynthesize", tmp_path / "in", *out)
    audio.save(tmp_path / "in" / "a.flac", tone(3000), 22050)
    assert "a.flac and a.wav would both become a .wav" in error("--resynthesize", tmp_path / "in", *out)


def test_files_are_listed_in_order(tmp_path):
    for name in ("b.wav", "a.WAV", "c/a.ogg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(path.relative_to(tmp_path)) for path in recordings(tmp_path)] == ["a.WAV", "b.wav", "c/a.ogg"]
