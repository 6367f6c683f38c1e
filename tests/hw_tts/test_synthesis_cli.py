"""Speaking with trained models: the program, its controls and its mistakes."""

import json
import wave

import pytest

import test as test_script
import train as train_script
from hw_tts import synthesize
from hw_tts.synthesizer import Synthesizer
from tests.conftest import ROOT

# Phones that eight utterances of the tiny corpora are sure to hold.
TEXT = "we will see ten keys"


def train(name, folder):
    config = ROOT / "configs" / "tiny" / f"{name}.json"
    sets = ["--set", "metrics={}", "--set", "trainer.max_steps=2"]
    assert train_script.main(["-c", str(config), "--run-dir", str(folder / "run"), "-d", "cpu", *sets]) == 0
    return str(folder / "run" / "checkpoint-00000002.pth")


@pytest.fixture(scope="module")
def fastspeech2(tmp_path_factory):
    return train("fastspeech2", tmp_path_factory.mktemp("fastspeech2"))


@pytest.fixture(scope="module")
def vits2(tmp_path_factory):
    return train("vits2", tmp_path_factory.mktemp("vits2"))


def seconds(path):
    with wave.open(str(path)) as file:
        assert file.getframerate() == 22050
        return file.getnframes() / 22050


def test_a_text_becomes_a_wav_and_a_picture(fastspeech2, tmp_path):
    assert synthesize.main(["-r", fastspeech2, "--text", TEXT, "--speaker", "en-us+f3", "-o", str(tmp_path)]) == 0
    assert seconds(tmp_path / "speech.wav") > 0
    assert (tmp_path / "speech.png").read_bytes().startswith(b"\x89PNG")


def test_a_long_text_is_said_sentence_by_sentence(fastspeech2):
    synthesizer = Synthesizer.load(fastspeech2)
    first, second = synthesizer.speak_batch(["We will see ten keys.", "We see."])
    (joined,) = synthesizer.speak_batch(["We will see ten keys. We see."])
    pause = round(0.25 * 22050)
    assert len(joined) == len(first) + pause + len(second)
    assert not joined[len(first) : len(first) + pause].any()
    (long,) = synthesizer.speak_batch(["we will see ten keys " * 200])
    assert len(long) > 100 * len(second)


def test_files_and_folders_of_texts_are_spoken(fastspeech2, tmp_path):
    lines = tmp_path / "lines.txt"
    lines.write_text(f"first|{TEXT}\n\n{TEXT}\n")
    assert synthesize.main(["-r", fastspeech2, "--file", str(lines), "-o", str(tmp_path / "a")]) == 0
    assert sorted(p.name for p in (tmp_path / "a").glob("*.wav")) == ["0003.wav", "first.wav"]
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text(TEXT)
    assert (
        synthesize.main(["-r", fastspeech2, "--transcriptions", str(tmp_path / "texts"), "-o", str(tmp_path / "b")])
        == 0
    )
    assert [p.name for p in (tmp_path / "b").glob("*.wav")] == ["one.wav"]


def test_the_courses_renders_are_nine():
    renders = synthesize.course_controls()
    assert len(renders) == 9
    assert renders["plain"] == {}
    assert renders["speed_1.2"] == {"speed": 1.2}
    assert renders["all_0.8"] == {"pitch": 0.8, "speed": 0.8, "energy": 0.8}


def test_speed_changes_the_length(vits2, tmp_path):
    for speed in ("1", "0.5"):
        flags = ["--speed", speed, "--noise", "0", "-o", str(tmp_path / speed)]
        assert synthesize.main(["-r", vits2, "--text", TEXT, *flags]) == 0
    slow, plain = seconds(tmp_path / "0.5" / "speech.wav"), seconds(tmp_path / "1" / "speech.wav")
    assert 1.5 * plain < slow < 2.5 * plain


def test_vits2_mixes_and_converts_voices(vits2, tmp_path):
    mix = ["--mix", "en-us=0.5,en-us+f3=0.5", "-o", str(tmp_path)]
    assert synthesize.main(["-r", vits2, "--text", TEXT, *mix]) == 0
    made = tmp_path / "speech.wav"
    between = ["--from", "en-us", "--speaker", "en-us+f3", "-o", str(tmp_path)]
    assert synthesize.main(["-r", vits2, "--convert", str(made), *between]) == 0
    assert seconds(tmp_path / "speech_en-us+f3.wav") == pytest.approx(seconds(made), abs=0.02)


def test_conversion_to_a_mixture_lies_between_and_noise_is_a_choice(vits2, tmp_path):
    assert synthesize.main(["-r", vits2, "--text", TEXT, "--noise", "0", "-o", str(tmp_path)]) == 0
    convert = ["-r", vits2, "--convert", str(tmp_path / "speech.wav"), "--from", "en-us", "--noise", "0"]
    said = {}
    for voice in (["--speaker", "en-us+f3"], ["--mix", "en-us+f3=2"], ["--mix", "en-us+f3=1,en-us=1"]):
        assert synthesize.main([*convert, *voice, "-o", str(tmp_path / voice[1])]) == 0
        (made,) = (tmp_path / voice[1]).glob("*.wav")
        said[voice[1]] = made.read_bytes()
    assert said["en-us+f3"] == said["en-us+f3=2"] != said["en-us+f3=1,en-us=1"]
    assert synthesize.main([*convert[:-1], "1", "--speaker", "en-us+f3", "-o", str(tmp_path / "noisy")]) == 0
    assert (tmp_path / "noisy" / "speech_en-us+f3.wav").read_bytes() != said["en-us+f3"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--convert", "x.wav", "--from", "a", "--speaker", "b", "--speed", "2"],
            "--speed has no effect beside --convert",
        ),
        (
            ["--convert", "x.wav", "--from", "a", "--duration-noise", "0"],
            "--duration-noise has no effect beside --convert",
        ),
        (["--course", "--energy", "2"], "--energy has no effect beside --course"),
        (["--text", TEXT, "--speaker", "a", "--mix", "a=1"], "--speaker has no effect beside --mix"),
        (["--text", TEXT, "--from", "a"], "--from: goes with --convert"),
        (["--text", TEXT, "--mix", "a=1,a=2"], "each name once, found 'a=2'"),
        (["--text", TEXT, "--mix", "a=inf"], "expected NAME=WEIGHT"),
    ],
)
def test_options_without_effect_are_refused(vits2, tmp_path, capsys, flags, message):
    assert synthesize.main(["-r", vits2, *flags, "-o", str(tmp_path)]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error


@pytest.mark.parametrize("noise", ["-1", "nan", "inf"])
def test_noise_is_a_deviation(noise, capsys):
    with pytest.raises(SystemExit, match="2"):
        synthesize.main(["-r", "x", "--text", TEXT, f"--noise={noise}", "-o", "y"])
    assert f"expected 0 or more, found {noise}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--text", "  "], "--text: the text is empty"),
        (["--text", TEXT, "--speaker", "en-us+f33"], "Did you mean 'en-us+f3'"),
        (["--text", TEXT, "--noise", "0.3"], "FastSpeech2 has no control 'noise'"),
        (["--text", "we will see the noise"], "(in 'noise')"),
        (["--text", "we will see привет"], "not in Latin letters: 'привет'"),
        (["--text", TEXT, "--vocoder", "missing.pth"], "missing.pth"),
        (["--text", TEXT, "--mix", "en-us"], "expected NAME=WEIGHT"),
        (["--text", TEXT, "--mix", "en-us=1"], "FastSpeech2 cannot mix speakers"),
        (["--convert", "x.wav"], "say who speaks in the recording"),
        (["--file", "missing.txt"], "--file missing.txt: cannot be read"),
    ],
)
def test_mistakes_are_one_line(fastspeech2, tmp_path, capsys, flags, message):
    assert synthesize.main(["-r", fastspeech2, *flags, "-o", str(tmp_path)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert message in errors[0]


def test_a_recognizer_cannot_speak(tmp_path, capsys):
    config = ROOT / "configs" / "tiny" / "ds2.json"
    sets = ["--set", "trainer.max_steps=1", "--set", "trainer.monitor=null"]
    assert train_script.main(["-c", str(config), "--run-dir", str(tmp_path / "run"), "-d", "cpu", *sets]) == 0
    path = str(tmp_path / "run" / "checkpoint-00000001.pth")
    assert synthesize.main(["-r", path, "--text", TEXT, "-o", str(tmp_path)]) == 2
    assert "holds a model of the task 'asr'" in capsys.readouterr().err


def test_an_unknown_speaker_in_a_split_is_named(fastspeech2, tmp_path, capsys):
    other = 'data.test.datasets.0.args.voices=["en-us+m1"]'
    assert test_script.main(["-r", fastspeech2, "-o", str(tmp_path / "o.json"), "-d", "cpu", "--set", other]) == 2
    assert "no speaker 'en-us+m1' in training" in capsys.readouterr().err


def test_output_tells_of_every_utterance(fastspeech2, tmp_path):
    metric = 'metrics={"log_mel_l1": "LogMelL1", "stoi": "STOI"}'
    output = tmp_path / "output.json"
    assert test_script.main(["-r", fastspeech2, "-o", str(output), "-d", "cpu", "--set", metric]) == 0
    rows = json.loads(output.read_text())
    assert len(rows) == 2
    for row in rows:
        assert seconds(row["audio_path"]) == pytest.approx(row["seconds"], abs=1e-3)
        assert sum(row["durations"]) * 256 / 22050 == pytest.approx(row["seconds"], abs=1e-3)
    figures = json.loads((tmp_path / "metrics.json").read_text())["output.json"]["splits"]["test"]
    assert {"log_mel_l1", "log_mel_l1/en-us", "log_mel_l1/en-us+f3", "stoi"} <= set(figures)
    for name in ("log_mel_l1", "stoi"):  # of free and of matched timing
        weights = [row["weights"][name] for row in rows]
        total = sum(row["metrics"][name] * weight for row, weight in zip(rows, weights, strict=True))
        assert total / sum(weights) == pytest.approx(figures[name], abs=1e-4)
