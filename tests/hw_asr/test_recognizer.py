"""A checkpoint as the recognizer of other tasks: the figures of test.py, any rate, any length, errors in one line."""

import json
import subprocess
import sys

import pytest
import torch

import hw_asr
import test as test_script
from hw_asr.decoders.base import Hypothesis
from hw_asr.losses.ctc import frames_needed
from hw_asr.transcript import words_of
from hw_base import checkpoint
from hw_base.audio import io as audio
from hw_base.config.resolve import resolve
from hw_base.errors import CheckpointError, ConfigError, DataError
from hw_base.runs.experiment import Experiment
from hw_base.task import BaseTask
from hw_base.trained import Given, load_recognizer, load_task
from tests.conftest import ROOT
from tests.recognizers import save_random


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_random(tmp_path_factory.mktemp("recognizer") / "model.pth")


@pytest.fixture(scope="module")
def recognizer(path):
    return load_recognizer(path)


def tones(*seconds, sample_rate=16000):
    """Something that is different everywhere."""
    generator = torch.Generator().manual_seed(3)
    return [0.1 * torch.randn(int(s * sample_rate), generator=generator).cumsum(0).sin() for s in seconds]


def test_it_hears_what_the_test_script_hears(path, recognizer, tmp_path):
    output = tmp_path / "output.json"
    assert test_script.main(["-r", str(path), "-d", "cpu", "-o", str(output)]) == 0
    rows = {row["id"]: row["pred_text_argmax"] for row in json.loads(output.read_text())}
    experiment = Experiment(resolve(checkpoint.load(path)["config"]), torch.device("cpu"))
    split = experiment.split("test", evaluation=True)
    waveforms = {item["utterance_id"]: item["waveform"] for item in (split[i] for i in range(len(split)))}
    heard = recognizer.transcribe_batch(list(waveforms.values()), 16000)
    assert dict(zip(waveforms, heard, strict=True)) == rows
    assert len(set(heard)) == len(heard)


def test_an_utterance_gives_the_same_alone_and_among_others(recognizer):
    waveforms = tones(0.7, 2.0, 0.01, 1.3)
    together, length = recognizer.posteriors(waveforms, 16000)
    assert together.dtype == torch.float32
    for row, frames, waveform in zip(together, length.tolist(), waveforms, strict=True):
        alone, alone_length = recognizer.posteriors([waveform], 16000)
        assert alone_length.tolist() == [frames]
        torch.testing.assert_close(alone[0], row[:frames], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(alone[0].exp().sum(-1), torch.ones(frames))
    many = [waveforms[i % 4] for i in range(35)]  # more than one batch, put back in order
    texts = recognizer.transcribe_batch(many, 16000)
    assert texts == [recognizer.transcribe_batch([waveform], 16000)[0] for waveform in many]


def test_frames_are_as_long_as_it_says(recognizer):
    assert recognizer.frame_seconds == pytest.approx(2 * 160 / 16000)
    _, length = recognizer.posteriors(tones(10.0), 16000)
    assert int(length) * recognizer.frame_seconds == pytest.approx(10.0, abs=0.03)


@pytest.mark.parametrize(
    ("config", "expected"),
    [("conformer.json", 0.04), ("ds2.json", 0.02), ("deepspeech.json", None), ("conformer_bpe.json", 0.04)],
)
def test_every_model_knows_its_stride(config, expected):
    raw = json.loads((ROOT / "configs" / "tiny" / config).read_text())
    experiment = Experiment(resolve(raw), torch.device("cpu"))
    if expected is None:
        expected = 0.01 * experiment.config.model.args.get("stride", 1)
    if config.endswith("bpe.json"):
        experiment.task.text_encoder.fit(["a few words of which pieces can be made, and then some more words"] * 9)
    recognizer = experiment.task.recognizer(experiment.model(), torch.device("cpu"))
    assert recognizer.frame_seconds == pytest.approx(expected)


def test_any_rate(recognizer):
    (waveform,) = tones(1.5)
    low = audio.resample(waveform, 16000, 22050)
    ours, length = recognizer.posteriors([low], 22050)
    resampled, _ = recognizer.posteriors([audio.resample(low, 22050, 16000)], 16000)
    assert torch.equal(ours, resampled)
    assert int(length) * recognizer.frame_seconds == pytest.approx(1.5, abs=0.03)


def test_silence_and_nothing_at_all(recognizer):
    assert recognizer.transcribe_batch([], 16000) == []
    texts = recognizer.transcribe_batch([torch.zeros(0), torch.zeros(1), torch.zeros(16000)], 16000)
    assert all(isinstance(text, str) for text in texts)
    with pytest.raises(DataError, match="NaN or infinite"):
        recognizer.transcribe_batch([torch.tensor([0.0, float("nan")])], 16000)
    with pytest.raises(DataError, match=r"shape \(1, 16\)"):
        recognizer.transcribe_batch([torch.zeros(1, 16)], 16000)


def test_texts_and_symbols(recognizer):
    assert recognizer.normalize("Hello,  World!") == "hello world"
    ids = recognizer.encode("Hello,  World!")
    assert "".join(recognizer.symbol(token) for token in ids) == "hello world"
    assert recognizer.symbol(0) == ""


def test_surroundings_make_no_difference_and_stay(path):
    waveforms = tones(0.5, 0.9)
    plain = load_recognizer(path).posteriors(waveforms, 16000)[0]
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = load_recognizer(path)
        assert torch.equal(again.posteriors(waveforms, 16000)[0], plain)
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(torch.rand(4), expected)
    assert not plain.requires_grad


def test_real_recordings(recognizer, real_data):
    """FLAC at 16 kHz, wav at 8 and at 22.05 kHz."""
    names = ["LibriSpeech/test-other", "free-spoken-digit-dataset", "LJSpeech-1.1"]
    for name in names:
        files = sorted(f for f in (real_data / name).rglob("*") if f.suffix in (".wav", ".flac"))[:3]
        loaded = [audio.load(file) for file in files]
        (rate,) = {rate for _, rate in loaded}
        log_probs, length = recognizer.posteriors([waveform for waveform, _ in loaded], rate)
        assert bool(torch.isfinite(log_probs).all())
        for (waveform, _), frames in zip(loaded, length.tolist(), strict=True):
            assert frames * recognizer.frame_seconds == pytest.approx(len(waveform) / rate, abs=0.03)


def test_posteriors_are_enough_for_an_alignment(recognizer):
    log_probs, length = recognizer.posteriors(tones(3.0), 16000)
    tokens = torch.tensor([recognizer.encode("a short text")])
    assert int(frames_needed(tokens, torch.tensor([tokens.shape[1]]))) <= int(length)
    loss = torch.nn.functional.ctc_loss(log_probs.transpose(0, 1), tokens, length, torch.tensor([tokens.shape[1]]))
    assert 0 < float(loss) < float("inf")


def test_the_package_of_the_task_is_found(path):
    code = (
        "import sys, torch; from hw_base.trained import load_recognizer; assert 'hw_asr' not in sys.modules;"
        f"r = load_recognizer({str(path)!r}); print(len(r.transcribe_batch([torch.zeros(8000)], 8000)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_a_missing_language_model_matters_to_transcripts_alone(tmp_path):
    section = "{beam: {type: BeamSearch, args: {lm: gone.arpa, lm_weight: 0.5}}}"
    path = save_random(tmp_path / "beam.pth", [f"decoders={section}"])
    recognizer = load_recognizer(path, given=Given(overrides=[f"decoders={section}"]))
    assert len(recognizer.posteriors(tones(0.5), 16000)) == 2
    with pytest.raises(DataError, match=r"gone\.arpa"):
        recognizer.transcribe_batch(tones(0.5), 16000)


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def test_checkpoints_that_are_no_recognizers(path, tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        load_recognizer(tmp_path / "gone.pth")
    (tmp_path / "text.pth").write_text("no checkpoint")
    with pytest.raises(CheckpointError) as error:
        load_recognizer(tmp_path / "text.pth")
    assert "not a checkpoint" in one_line(error)
    state = checkpoint.load(path)
    other = tmp_path / "other.pth"
    checkpoint.save(other, {"model": state["model"]})
    with pytest.raises(CheckpointError, match=f"{other}: no config, text_encoder"):
        load_recognizer(other)
    checkpoint.save(other, state | {"config": state["config"] | {"task": "singing", "modle": 3}})
    with pytest.raises(ConfigError, match="no task is named 'singing'") as error:
        load_recognizer(other)
    assert str(other) in one_line(error)
    checkpoint.save(other, state | {"config": state["config"] | {"modle": 3, "sead": 4}})
    with pytest.raises(ConfigError, match=r"modle: unknown key.*\(and 1 more\)") as error:
        load_recognizer(other)
    assert f"(in the config of the checkpoint {other})" in one_line(error)
    checkpoint.save(other, state | {"model": {}})
    with pytest.raises(CheckpointError, match="made for another model") as error:
        load_recognizer(other)
    one_line(error)


def test_a_task_that_does_not_recognize(path, monkeypatch):
    monkeypatch.delattr("hw_asr.task.RecognitionTask.recognizer")
    with pytest.raises(ConfigError, match=f"{path}: a model of task 'asr' does not recognize speech") as error:
        load_recognizer(path)
    one_line(error)
    assert "recognizer" in vars(BaseTask)


def test_a_file_and_its_waveform_give_the_same_text(path, tmp_path):
    (waveform,) = tones(1.0)
    file = tmp_path / "speech.wav"
    audio.save(file, waveform, 16000)
    model = hw_asr.load(path, device="cpu")
    text = model.transcribe(file)
    assert text == model.transcribe(str(file)) == model.transcribe(audio.load(file)[0], 16000)
    assert text == model.transcribe(audio.load(file)[0].numpy(), 16000)
    with pytest.raises(ConfigError, match="needs its sample rate"):
        model.transcribe(waveform)
    with pytest.raises(DataError, match=r"gone\.wav"):
        model.transcribe(tmp_path / "gone.wav")


def test_words_have_times_and_confidence(path):
    encoder = load_task(path).text_encoder
    tokens = [encoder.encode(character)[0] if character != " " else encoder.encode("a b")[1] for character in "hi you"]
    frames = (2, 4, 5, 7, 8, 20)
    log_probs = torch.full((30, len(encoder)), 0.01)
    for token, frame, probability in zip(tokens, frames, (0.9, 0.4, 0.5, 0.8, 0.8, 0.8), strict=True):
        log_probs[frame, token] = probability
    best = Hypothesis("hi you", tuple(tokens), 0.0, 0.0, timesteps=frames)
    hi, you = words_of(best, log_probs.log(), encoder, 0.02, start=10.0)
    assert (hi.text, hi.start, hi.end) == ("hi", 10.04, 10.1)
    assert (you.text, you.start, you.end) == ("you", 10.14, 10.42)
    assert hi.confidence == pytest.approx(0.6)  # the geometric mean of 0.9 and 0.4
    assert you.confidence == pytest.approx(0.8)


def test_words_of_the_transcript_are_its_text(path):
    model = hw_asr.load(path, device="cpu")
    transcript = model.transcribe(tones(3.0)[0], 16000, details=True)
    assert transcript.seconds == 3.0
    assert [word.text for word in transcript.words] == transcript.text.split()
    assert all(0.0 <= w.start < w.end <= 3.1 and 0.0 < w.confidence <= 1.0 for w in transcript.words)
    assert [w.start for w in transcript.words] == sorted(w.start for w in transcript.words)
    silent = model.transcribe(torch.zeros(0), 16000, details=True)
    assert silent.seconds == 0.0
