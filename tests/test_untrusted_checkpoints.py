"""Every program that opens a checkpoint: files, caches and downloads that its config names are not touched."""

import json
import logging
import resource
import shutil
import sys
import wave
from pathlib import Path

import pytest
import torch

import hw_asr
import hw_tts
import test as test_script
from hw_asr import recognize, train_lm, tune_decoder
from hw_asr.evaluation.grading import GRADING
from hw_asr.language_models.arpa import write_arpa
from hw_asr.language_models.kneser_ney import estimate
from hw_base import checkpoint, demo, doctor, trained
from hw_base.demos.contract import Limits
from hw_base.errors import CheckpointError, ConfigError
from hw_tts import show_alignments, synthesize
from hw_tts.metrics.transcripts import SynthesisCER
from hw_tts.vocoders.loading import open_vocoder
from tests.conftest import ROOT
from tests.recognizers import save_random

FIRST_EDITION = ROOT / "tests" / "data" / "first_edition"
SAID = "not opened unless -c or --set gives them: "
_opened: list[str] = []
_watched: list[str] = []


def _listen(event, arguments):
    if _watched and event in ("open", "os.mkdir") and str(arguments[0]).startswith(_watched[0]):
        _opened.append(f"{event} {arguments[0]}")


sys.addaudithook(_listen)


@pytest.fixture
def secret(tmp_path):
    """A folder with a language model that works; the test fails if anything in it is opened."""
    folder = tmp_path / "secret"
    folder.mkdir()
    write_arpa(estimate([["we", "see"], ["ten", "keys"]], 2)[0], str(folder / "lm.arpa"))
    _watched.append(str(folder))
    _opened.clear()
    yield folder
    _watched.clear()
    assert _opened == []


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "speech.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    return path


def recognizer(tmp_path, secret):
    """Its primary decoder has a language model; its data would fill a cache and be downloaded."""
    path = save_random(tmp_path / "asr.pth")
    state = checkpoint.load(path)
    config = state["config"]
    config["decoders"]["beam"] = {"type": "BeamSearch", "args": {"lm": str(secret / "lm.arpa"), "lm_weight": 0.5}}
    config["decoder"] = "beam"
    for split in config["data"].values():
        split["datasets"][0]["args"] |= {"cache_dir": str(secret / "cache"), "n_utterances": 2}
    noise = {"type": "BackgroundNoise", "args": {"folder": str(secret)}}
    config["augmentations"] = [noise, *config["augmentations"], noise]
    checkpoint.save(path, state)
    return str(path)


def synthesizer(tmp_path, secret):
    state = checkpoint.load(FIRST_EDITION / "fastspeech2" / "checkpoint-00000004.pth")
    state["config"]["metrics"] = {"cer": {"type": "SynthesisCER", "args": {"recognizer": str(secret / "asr.pth")}}}
    state["config"]["trainer"]["args"] = {"vocoder": str(secret / "vocoder.pth")}
    checkpoint.save(tmp_path / "tts.pth", state)
    return str(tmp_path / "tts.pth")


def vocoder(tmp_path, secret):
    state = checkpoint.load(FIRST_EDITION / "hifigan" / "checkpoint-00000008.pth")
    state["config"]["trainer"]["args"]["mels"] = str(secret)
    checkpoint.save(tmp_path / "vocoder.pth", state)
    return str(tmp_path / "vocoder.pth")


def run_test(path, tmp_path, wav):
    assert test_script.main(["-r", path, "-d", "cpu", "-o", str(tmp_path / "out.json"), "-t", str(wav)]) == 0


def run_own_test(path, tmp_path, wav):
    assert test_script.main(["-r", path, "-d", "cpu", "-o", str(tmp_path / "out.json")]) == 0


def run_tune(path, tmp_path, wav):
    own = tmp_path / "own.arpa"
    write_arpa(estimate([["we", "see"], ["ten", "keys"]], 2)[0], str(own))
    section = json.dumps({"type": "BeamSearch", "args": {"lm": str(own)}})
    arguments = ["-r", path, "-d", "cpu", "--set", f"decoders.own={section}", "-o", str(tmp_path / "tuned")]
    assert tune_decoder.main([*arguments, "--lm-weight", "0.5", "--word-score", "0"]) == 0


def run_train_lm(path, tmp_path, wav):
    (tmp_path / "text").write_text("we see\nten keys\n")
    arguments = ["--text", str(tmp_path / "text"), "--order", "2", "--text-encoder", path]
    assert train_lm.main([*arguments, "-o", str(tmp_path / "new.arpa")]) == 0


def run_show_alignments(path, tmp_path, wav):
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib")
    arguments = ["-r", path, "-d", "cpu", "--limit", "1", "--set", "data.val.datasets.0.args.n_utterances=2"]
    assert show_alignments.main([*arguments, "-o", str(tmp_path / "pictures")]) == 0


def run_demo(path, tmp_path, wav):
    pytest.importorskip("gradio", reason="gradio is an extra")
    demo.build([path], "cpu", Limits(5.0, 100))


RECOGNITION = {
    "test.py": run_own_test,
    "test.py -t": run_test,
    "hw_asr.load": lambda path, tmp_path, wav: hw_asr.load(path, "cpu").transcribe(wav),
    "hw_asr.recognize": lambda path, tmp_path, wav: recognize.main(["-r", path, "-d", "cpu", str(wav)]),
    "hw_asr.tune_decoder": run_tune,
    "hw_asr.train_lm": run_train_lm,
    "hw_base.doctor": lambda path, tmp_path, wav: doctor.main(["-r", path]),
    "hw_base.demo": run_demo,
    "a metric's recognizer": lambda path, tmp_path, wav: SynthesisCER(path, device="cpu"),
}
SYNTHESIS = {
    "test.py": run_own_test,
    "hw_tts.load": lambda path, tmp_path, wav: hw_tts.load(path, device="cpu").speak("we see"),
    "hw_tts.synthesize": lambda path, tmp_path, wav: synthesize.main(
        ["-r", path, "-d", "cpu", "--text", "we see", "-o", str(tmp_path / "speech")]
    ),
    "hw_tts.show_alignments": run_show_alignments,
}


@pytest.mark.parametrize("program", RECOGNITION)
def test_what_a_recognizers_checkpoint_names_is_not_opened(program, secret, wav, tmp_path, caplog, capsys):
    path = recognizer(tmp_path, secret)
    RECOGNITION[program](path, tmp_path, wav)
    said = caplog.text + capsys.readouterr().err
    assert SAID in said
    assert "decoders.beam" in said


@pytest.mark.parametrize("program", SYNTHESIS)
def test_what_a_synthesizers_checkpoint_names_is_not_opened(program, secret, wav, tmp_path):
    SYNTHESIS[program](synthesizer(tmp_path, secret), tmp_path, wav)


def test_what_a_vocoders_checkpoint_names_is_not_opened(secret, tmp_path):
    open_vocoder(vocoder(tmp_path, secret))


def test_what_the_caller_gives_is_opened(secret, wav, tmp_path):
    path = recognizer(tmp_path, secret)
    lm = str(secret / "lm.arpa")
    assert "beam" not in hw_asr.load(path, "cpu").config.decoders
    own = hw_asr.load(path, "cpu", overrides=[f"decoders.beam.args.lm={lm}"])
    assert own.config.primary_decoder() == "beam"
    (tmp_path / "c.json").write_text(
        json.dumps({"decoder": "b", "decoders": {"b": {"type": "BeamSearch", "args": {"lm": lm}}}})
    )
    assert recognize.main(["-r", path, "-c", str(tmp_path / "c.json"), "-d", "cpu", str(wav)]) == 0
    assert any("lm.arpa" in opened for opened in _opened)
    _opened.clear()


def test_a_change_of_a_decoder_does_not_give_its_file(secret, tmp_path, capsys):
    path = recognizer(tmp_path, secret)
    with pytest.raises(ConfigError, match=r"decoders\.beam: needs '.*lm\.arpa', which only the checkpoint names"):
        hw_asr.load(path, "cpu", overrides=["decoders.beam.args.lm_weight=1"])
    arguments = ["-r", path, "-d", "cpu", "-o", str(tmp_path / "out.json"), "--decoder", "beam"]
    assert test_script.main(arguments) == 2
    assert "beam" in capsys.readouterr().err


def test_a_checkpoint_that_was_written_here_may_be_trusted(secret, tmp_path):
    opened = trained.load(recognizer(tmp_path, secret), given=trained.Given(trust=True))
    assert opened.config.decoder == "beam"


def test_the_grader_opens_the_files_of_the_submission_in_its_sandbox(secret, wav, tmp_path):
    """The checkpoint that it reads there was written by itself, with paths that it has checked."""
    audio, output = tmp_path / "data" / "audio", tmp_path / "output"
    audio.mkdir(parents=True)
    output.mkdir()
    shutil.copy(wav, audio)
    GRADING.predict(Path(recognizer(tmp_path, secret)), tmp_path / "data", output)
    assert [row["id"] for row in json.loads((output / "output.json").read_text())] == ["speech"]
    assert any("lm.arpa" in opened for opened in _opened)
    _opened.clear()


@pytest.fixture
def little_memory():
    """Two more GiB of address space than are in use: what takes more fails, and harms nobody."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (2 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("changes", [{"n_hidden": 65536}, {"n_hidden": 2048, "n_layers": 1000}])
def test_a_config_of_a_far_larger_model_is_refused_before_memory_is_taken(changes, tmp_path, capsys, little_memory):
    path = save_random(tmp_path / "asr.pth")
    state = checkpoint.load(path)
    state["config"]["model"]["args"] |= changes
    checkpoint.save(path, state)
    with pytest.raises(CheckpointError, match=r"refused, its config describes a model of [\d,]+ values, and it holds"):
        trained.load(path)
    assert test_script.main(["-r", str(path), "-d", "cpu", "-o", str(tmp_path / "out.json")]) == 2
    assert "refused, its config describes a model of" in capsys.readouterr().err


TINY = sorted((ROOT / "configs" / "tiny").glob("*.json"))


@pytest.mark.parametrize("path", TINY, ids=lambda path: path.stem)
def test_every_model_is_measured_without_memory(path):
    """Each of them can be built on the meta device, so that none passes the check unmeasured."""
    from hw_base.config.resolve import build, load
    from hw_base.registry import MODELS, TASKS

    logging.getLogger("hw_base").setLevel(logging.ERROR)
    config = load(path)
    task = TASKS[config.task](config)
    task.text_encoder.fit(["we will see ten keys next week"])
    with torch.device("meta"):
        model = build("model", config.model, MODELS, **task.model_arguments())
    assert all(tensor.is_meta for tensor in model.parameters())
