"""A published folder: read back to the bit, usable wherever a checkpoint is, with a card that says what it is."""

import json
import shutil

import pytest
import torch
import yaml

import hw_asr
import hw_tts
import test as test_script
from hw_base import checkpoint, publish, trained
from hw_base.audio import io as audio
from hw_base.errors import CheckpointError
from hw_base.files import published
from hw_tts import synthesize
from hw_tts.vocoders.loading import open_vocoder
from tests.conftest import ROOT, same

safetensors = pytest.importorskip("safetensors", reason="writes the weights")
RUNS = ROOT / "tests" / "data" / "first_edition"
CHECKPOINTS = {path.parent.name: path for path in RUNS.glob("*/checkpoint-*.pth")}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    for name, path in CHECKPOINTS.items():
        assert publish.main([str(path), "-o", str(root / name), "--license", "mit", "--language", "en"]) == 0
    return root


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_what_is_read_back_is_the_checkpoint_to_the_bit(name, folders):
    before, after = checkpoint.load(CHECKPOINTS[name]), checkpoint.load(folders / name / published.NAME)
    for part in ("model", "text_encoder", "task", "step", "packages"):
        assert same(before[part], after[part]), part
    assert after["config"]["model"] == before["config"]["model"]
    assert "optimizations" not in after


def test_whoever_may_read_the_config_may_read_the_weights(folders):
    for folder in folders.iterdir():
        assert (folder / published.NAME).stat().st_mode == (folder / "config.json").stat().st_mode


def test_a_recognizer_gives_the_same_posteriors_and_transcripts(folders):
    models = [trained.load(path).model for path in (CHECKPOINTS["ds2"], folders / "ds2")]
    spectrogram = torch.randn(2, 40, 90, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b = (m(spectrogram=spectrogram, spectrogram_length=torch.tensor([90, 41]))["log_probs"] for m in models)
    assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["fastspeech2", "vits2"])
def test_a_synthesizer_gives_the_same_samples(name, folders):
    spoken = []
    for path in (CHECKPOINTS[name], folders / name):
        torch.manual_seed(3)
        spoken.append(hw_tts.load(path, device="cpu").speak("Ten keys.")[0])
    assert torch.equal(*spoken)


def test_a_vocoder_is_opened_from_its_folder(folders):
    a, b = (open_vocoder(path) for path in (CHECKPOINTS["hifigan"], folders / "hifigan"))
    assert same(a.state_dict(), b.state_dict())


def test_the_programs_take_the_folder_and_give_the_same_figures(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ["--set", "data.test.limit=2", "-d", "cpu"]
    for source, output in ((CHECKPOINTS["ds2"], "a.json"), (folders / "ds2", "b.json")):
        assert test_script.main(["-r", str(source), "-o", output, *few]) == 0
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads((tmp_path / "b.json").read_text())
    figures = json.loads((tmp_path / "metrics.json").read_text())
    assert figures["a.json"]["splits"] == figures["b.json"]["splits"]
    audio.save(tmp_path / "speech.wav", 0.1 * torch.randn(16000).clamp(-3, 3), 16000)
    assert isinstance(hw_asr.load(str(folders / "ds2"), device="cpu").transcribe("speech.wav"), str)
    for source, output in ((CHECKPOINTS["fastspeech2"], "a"), (folders / "fastspeech2", "b")):
        command = ["-r", str(source), "--text", "Ten keys.", "-o", output, "-d", "cpu"]
        assert synthesize.main(command) == 0
    (a,), (b,) = (list((tmp_path / name).glob("*.wav")) for name in "ab")
    assert a.read_bytes() == b.read_bytes()


def test_the_card_says_what_it_is(folders):
    text = (folders / "fastspeech2" / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    header = yaml.safe_load(front)
    assert (header["license"], header["language"], header["pipeline_tag"]) == ("mit", ["en"], "text-to-speech")
    rows = [json.loads(line) for line in (RUNS / "fastspeech2" / "metrics.jsonl").read_text().splitlines()]
    (loss,) = [row["loss"] for row in rows if row.get("split") == "val" and row["step"] == 4 and "loss" in row]
    metrics = {m["type"]: m["value"] for r in header["model-index"][0]["results"] for m in r["metrics"]}
    assert metrics["loss"] == pytest.approx(loss, abs=1e-6)
    weights = sum(
        t.numel() for t in checkpoint.load(CHECKPOINTS["fastspeech2"])["model"].values() if t.is_floating_point()
    )
    for part in (
        f"| val | loss | {loss:.4f} |",
        f"{weights:,} weights",
        "* train: `SyntheticSpeech`",
        "hw_tts.synthesize -r DIR",
    ):
        assert part in body


def test_sounds_that_the_model_made_are_copied(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(RUNS / "fastspeech2", run)
    rows = []
    sounds = [(2, "synthesized", "val"), (4, "synthesized", "val"), (4, "recorded", "val"), (4, "synthesized", "dev")]
    for i, (step, what, split) in enumerate(sounds):
        file = f"media/{split}/a_{what}-{step}.wav"
        audio.save(run / file, 0.1 * torch.ones(100 + i), 22050)
        rows.append({"step": step, "split": split, "audio": f"s/a/{what}", "file": file})
    with open(run / "metrics.jsonl", "a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    assert publish.main([str(run), "-o", str(tmp_path / "out")]) == 0
    copies = sorted((tmp_path / "out" / "samples").iterdir())
    assert [path.name for path in copies] == ["dev-a_synthesized-4.wav", "val-a_synthesized-4.wav"]
    assert [audio.load(path)[0].shape[-1] for path in copies] == [103, 101]
    card = (tmp_path / "out" / "README.md").read_text()
    for path in copies:
        assert f"* {path.name[:3]} s/a: [samples/{path.name}](samples/{path.name})" in card


def test_tensors_are_compared_bit_by_bit():
    values = torch.tensor([float("nan"), -0.0, 1.0], dtype=torch.bfloat16)
    assert publish._same(values, values.clone())
    assert not publish._same(values, values.abs())
    assert not publish._same(values, values.float())
    assert not publish._same(values, values[None])
    assert publish._same(torch.tensor(True), torch.tensor(True))


def test_the_home_folder_is_not_told(tmp_path, monkeypatch):
    state = checkpoint.load(CHECKPOINTS["ds2"])
    monkeypatch.setenv("HOME", "/home/somebody")
    state["config"]["data"]["train"]["datasets"] = [{"type": "CustomDir", "args": {"root": "/home/somebody/speech"}}]
    checkpoint.save(
        tmp_path / "checkpoint-00000008.pth", {key: value for key, value in state.items() if key != "format"}
    )
    assert publish.main([str(tmp_path / "checkpoint-00000008.pth"), "-o", str(tmp_path / "out")]) == 0
    for path in (tmp_path / "out").iterdir():
        assert b"somebody" not in path.read_bytes(), path


def test_mistakes_are_one_line(folders, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    assert publish.main([str(CHECKPOINTS["ds2"]), "-o", str(tmp_path / "full")]) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert publish.main([str(tmp_path / "no.pth"), "-o", str(tmp_path / "new")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_damaged_or_foreign_file_is_one_line(folders, tmp_path):
    from safetensors.torch import save_file

    whole = (folders / "ds2" / published.NAME).read_bytes()
    for name, content in {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"x" * 1000,
        "huge": b"\xff" * 64,
    }.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="not a readable safetensors file"):
            checkpoint.load(path)
    save_file({"a": torch.ones(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match=r"not one that hw_base\.publish wrote"):
        checkpoint.load(tmp_path / "foreign.safetensors")
    save_file({"a": torch.ones(2)}, tmp_path / "deep.safetensors", {"hw_speech": "[" * 100_000})
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "deep.safetensors")
