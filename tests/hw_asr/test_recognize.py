"""Files to transcripts on the command line: every format, any length, several inputs, bad ones among them."""

import json
import re
import subprocess
import sys

import pytest
import torch

import hw_asr
import hw_asr.recognizer as recognizer_module
from hw_asr import recognize
from hw_asr.transcript import Transcript, Word
from hw_base.audio import io as audio
from tests.conftest import ROOT
from tests.recognizers import save_random

CUE = r"\d\d:\d\d:\d\d[.,]\d\d\d --> \d\d:\d\d:\d\d[.,]\d\d\d"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    decoders = "decoders={argmax: Greedy, beam: {type: BeamSearch, args: {beam_size: 4, engine: tensor}}}"
    return save_random(tmp_path_factory.mktemp("recognizer") / "model.pth", [decoders])


@pytest.fixture
def folder(tmp_path):
    """Three recordings, one of them below."""
    for i, name in enumerate(("a.wav", "b.flac", "more/c.ogg")):
        sound = torch.randn(16000 + 8000 * i, generator=torch.Generator().manual_seed(i))
        audio.save(tmp_path / "speech" / name, 0.1 * sound.cumsum(0).sin(), 16000)
    return tmp_path / "speech"


def run(capsys, path, *arguments):
    code = recognize.main(["-r", str(path), "-d", "cpu", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_one_file_gives_its_text_and_a_folder_a_line_for_each(path, folder, capsys):
    model = hw_asr.load(path, device="cpu")
    assert run(capsys, path, folder / "a.wav") == (0, model.transcribe(folder / "a.wav") + "\n", "")
    files = [folder / "a.wav", folder / "b.flac", folder / "more" / "c.ogg"]
    code, out, _ = run(capsys, path, folder)
    assert code == 0
    assert out.splitlines() == [f"{file}\t{model.transcribe(file)}" for file in files]


def test_json_has_words_with_times_and_confidence(path, folder, capsys):
    code, out, _ = run(capsys, path, folder, "--format", "json", "--decoder", "beam")
    assert code == 0
    model = hw_asr.load(path, device="cpu", decoder="beam")
    for line in out.splitlines():
        row = json.loads(line)
        transcript = model.transcribe(row["file"], details=True)
        assert (row["text"], row["seconds"]) == (transcript.text, pytest.approx(transcript.seconds, abs=1e-3))
        assert [word["text"] for word in row["words"]] == [word.text for word in transcript.words]
        assert all(0 <= w["start"] < w["end"] and 0 < w["confidence"] <= 1 for w in row["words"])


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitles_are_written_beside_each_other(path, folder, tmp_path, capsys, kind):
    code, out, _ = run(capsys, path, folder, "--format", kind, "-o", tmp_path / "out")
    assert code == 0
    written = [tmp_path / "out" / f"{name}.{kind}" for name in "abc"]
    assert out.splitlines() == [str(file) for file in written]
    for file in written:
        assert re.search(CUE, file.read_text(encoding="utf-8"))


def test_subtitles_end_at_pauses_and_fit_the_screen():
    words = [Word("one", 0.5, 0.9, 1.0), Word("<two>", 1.0, 1.4, 1.0), Word("three", 3661.5, 3662.0, 1.0)]
    transcript = Transcript("one <two> three", tuple(words), 3700.0)
    assert recognize.FORMATS["srt"](transcript, "") == (
        "1\n00:00:00,500 --> 00:00:01,400\none <two>\n\n2\n01:01:01,500 --> 01:01:02,000\nthree\n"
    )
    assert recognize.FORMATS["vtt"](transcript, "").startswith(
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.400\none &lt;two&gt;\n"
    )
    many = Transcript("", tuple(Word("word", i / 2, i / 2 + 0.4, 1.0) for i in range(60)), 30.0)
    cues = recognize.FORMATS["srt"](many, "").split("\n\n")
    assert len(cues) == 5  # of at most seven seconds
    assert sum(cue.count("word") for cue in cues) == 60
    assert "00:00:00,000 --> 00:00:09,000\nall" in recognize.FORMATS["srt"](Transcript("all", (), 9.0), "")


def test_bad_files_are_named_in_one_line_and_the_others_are_recognized(path, folder, tmp_path, capsys):
    (folder / "b.flac").write_bytes(b"no audio")
    (tmp_path / "empty").mkdir()
    code, out, error = run(capsys, path, folder, tmp_path / "empty", tmp_path / "gone.wav")
    assert code == 2
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(folder / "a.wav"), str(folder / "more/c.ogg")]
    assert re.fullmatch(
        r"error: .*b\.flac: .*\nerror: .*empty: a folder without audio.*\nerror: .*gone\.wav: .*\n"
        r"error: 3 of 5 could not be recognized\n",
        error,
    )
    code, _, error = run(capsys, path, folder / "a.wav", "--decoder", "beem")
    assert code == 2
    assert "no decoder 'beem'; its config has argmax, beam" in error


def test_a_wav_on_standard_input(path, folder):
    command = [sys.executable, "-m", "hw_asr.recognize", "-r", str(path), "-d", "cpu", "-"]
    content = (folder / "a.wav").read_bytes()
    done = subprocess.run(command, cwd=ROOT, input=content, capture_output=True)
    assert done.returncode == 0, done.stderr
    expected = hw_asr.load(path, device="cpu").transcribe(folder / "a.wav")
    assert done.stdout.decode() == expected + "\n"


def test_a_long_file_is_read_and_run_in_windows_and_decoded_in_pieces(path, tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    sound = 0.1 * torch.randn(40 * 16000, generator=generator).cumsum(0).sin()
    for second in range(3, 40, 4):  # pauses
        sound[second * 16000 : second * 16000 + 12000] = 0
    audio.save(tmp_path / "long.wav", sound, 16000)
    model = hw_asr.load(path, device="cpu")
    monkeypatch.setattr(recognizer_module, "LONGEST_SECONDS", 10)
    monkeypatch.setattr(recognizer_module, "WINDOW_SECONDS", 8)
    monkeypatch.setattr(recognizer_module, "OVERLAP_SECONDS", 3)
    whole = model.transcribe(audio.load(tmp_path / "long.wav")[0], 16000, details=True)
    longest = []
    load = audio.load
    monkeypatch.setattr(
        audio, "load", lambda *args, **kw: (lambda got: longest.append(len(got[0])) or got)(load(*args, **kw))
    )
    assert model.transcribe(tmp_path / "long.wav", details=True) == whole
    assert max(longest) == 8 * 16000  # never the whole file
    assert len(longest) > 5
    parts = list(model.parts_of_file(tmp_path / "long.wav"))
    monkeypatch.setattr(recognizer_module, "DECODED_SECONDS", 12)
    pieces = model.decoded(parts, 40.0)
    assert pieces.text.replace(" ", "") == whole.text.replace(" ", "")
    assert [w.start for w in pieces.words] == sorted(w.start for w in pieces.words)
    assert pieces.words[-1].end == whole.words[-1].end
