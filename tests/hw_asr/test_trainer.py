"""What training shows of its augmentations, read back from the files of the writers."""

import io
import wave

import numpy as np
import pytest
import torch

import train as train_script
from hw_base import checkpoint
from hw_base.audio import io as audio
from hw_base.config import resolve as config
from hw_base.runs.experiment import Experiment
from hw_base.writers import plots
from hw_base.writers.jsonl import read_rows
from tests.conftest import ROOT, same

TINY = str(ROOT / "configs" / "tiny" / "ds2.json")
STEPS = ["trainer.max_steps=4", "trainer.eval_every=2", 'writers=["TensorBoardWriter"]']
NAMES = ["audio_original", "audio_augmented", "spectrogram_augmentation"]
ROUNDING = 1.0 / 32767


def run(folder, *changes):
    sets = [part for change in (*STEPS, *changes) for part in ("--set", change)]
    assert train_script.main(["-c", TINY, "-d", "cpu", "--run-dir", str(folder), *sets]) == 0
    return folder


def shown(folder):
    """Path of each file by (step, name)."""
    rows = [row for row in read_rows(folder / "metrics.jsonl") if row["split"] == "train" and "file" in row]
    return {(row["step"], row.get("audio") or row.get("image")): folder / row["file"] for row in rows}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    pytest.importorskip("tensorboard", reason="TensorBoardWriter needs it")
    return run(tmp_path_factory.mktemp("run") / "tiny")


@pytest.fixture(scope="module")
def split():
    """The training split, built once more."""
    return Experiment(config.load(TINY), torch.device("cpu")).split("train", evaluation=False)


def test_each_evaluation_shows_an_utterance_as_it_is_trained_on(trained, split):
    files = shown(trained)
    assert set(files) == {(step, name) for step in (2, 4) for name in NAMES}
    chosen = {}
    for step, epoch in ((2, 0), (4, 1)):  # an epoch has three batches
        original, _ = audio.load(str(files[step, "audio_original"]))
        same_length = [i for i in range(len(split)) if split.waveform(i).shape == original.shape]
        (chosen[step],) = [i for i in same_length if (split.waveform(i) - original).abs().max() <= ROUNDING]
        item = split[(epoch, chosen[step])]
        augmented, _ = audio.load(str(files[step, "audio_augmented"]))
        assert augmented.shape == item["waveform"].shape
        assert (augmented - item["waveform"]).abs().max() <= ROUNDING
    assert chosen[2] != chosen[4]


def test_the_picture_has_both_spectrograms(trained, split):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow reads the picture back")
    files = shown(trained)
    picture = np.array(pillow.open(files[2, "spectrogram_augmentation"]))
    original, rate = audio.load(str(files[2, "audio_original"]))
    pairs = {}
    for i in range(len(split)):
        item, name = split[(0, i)], split.records[i].utterance_id
        both = {
            f"{name}: original": split.make_item.features(split.waveform(i)),
            f"{name}: augmented": item["spectrogram"],
        }
        pairs[i] = both if split.waveform(i).shape == original.shape else {}
    hop = split.make_item.features.hop_length
    drawn = [plots.spectrograms_image(both, hop / rate, "mel band") for both in pairs.values() if both]
    assert any(np.array_equal(picture, image) for image in drawn)


def test_tensorboard_gets_the_same(trained):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow reads the picture back")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    everything = dict.fromkeys(["images", "audio"], 0)
    loaded = EventAccumulator(str(trained / "tensorboard"), size_guidance=everything).Reload()
    files = shown(trained)
    for name in NAMES[:2]:
        sounds = loaded.Audio(f"train/{name}")
        assert [sound.step for sound in sounds] == [2, 4]
        for sound in sounds:
            with (
                wave.open(io.BytesIO(sound.encoded_audio_string)) as one,
                wave.open(str(files[sound.step, name])) as two,
            ):
                assert one.getframerate() == two.getframerate()
                assert one.readframes(one.getnframes()) == two.readframes(two.getnframes())
    for image in loaded.Images(f"train/{NAMES[2]}"):
        there = np.array(pillow.open(files[image.step, NAMES[2]]))
        assert np.array_equal(np.array(pillow.open(io.BytesIO(image.encoded_image_string))), there)


def test_showing_changes_nothing_in_training(trained, tmp_path):
    other = run(tmp_path / "quiet", "trainer.examples=0")
    assert not shown(other)
    one, two = (checkpoint.load(folder / "checkpoint-00000004.pth") for folder in (trained, other))
    assert same(one["model"], two["model"])
    assert same(one["rng"], two["rng"])


def test_without_augmentations_there_is_nothing_to_compare(tmp_path):
    assert not shown(run(tmp_path / "plain", "augmentations=[]"))


def test_a_training_without_decoders_is_evaluated_by_its_loss(tmp_path):
    """And the examples are shown without predictions."""
    folder = run(tmp_path / "run", "decoders={}", "metrics={}", "trainer.monitor=min val/loss", "trainer.max_steps=2")
    rows = [row for row in read_rows(folder / "metrics.jsonl") if row["split"] == "val"]
    assert any("loss" in row for row in rows)
    assert any("spectrogram" in str(row.get("image")) for row in rows)
    assert not tables_of(rows, "predictions")
    assert not tables_of(rows, "confusions")


def tables_of(rows, name):
    return {row["step"]: row["rows"] for row in rows if row.get("table") == name}


def test_each_voice_is_shown_by_name_and_each_recording_sent_once(trained, tmp_path):
    """Also across a resume, with two voices of three utterances."""
    voices = '["en-us", "en-us+f3"]'
    some = [
        f"data.val.datasets.0.args.voices={voices}",
        "data.val.datasets.0.args.n_utterances=6",
        "trainer.examples=3",
    ]
    run(tmp_path / "run", *some)
    sets = [part for change in (*STEPS, *some, "trainer.max_steps=6") for part in ("--set", change)]
    assert train_script.main(["-d", "cpu", "-r", "auto", "-c", TINY, "--run-dir", str(tmp_path / "run"), *sets]) == 0
    rows = [row for row in read_rows(tmp_path / "run" / "metrics.jsonl") if row["split"] == "val"]
    tables = {step: [cells[0] for cells in table] for step, table in tables_of(rows, "predictions").items()}
    assert sorted(tables) == [2, 4, 6]
    assert tables[2] == tables[4] == tables[6]
    files = [row for row in rows if "file" in row and row.get("image") != "confusion_matrix"]
    names = [row.get("audio") or row.get("image") for row in files]
    assert {row["step"] for row in files} == {2}
    assert {row["caption"] for row in files} == {cells[2] for cells in tables_of(rows, "predictions")[2]}
    assert [row["step"] for row in rows if row.get("image") == "confusion_matrix"] == [2, 4, 6]
    confusions = tables_of(rows, "confusions")
    assert sorted(confusions) == [2, 4, 6]
    assert all(a != b and 0 < share <= 1 for a, b, _, share in confusions[6])
    expected = [
        f"{voice}/{name}" for voice, name in zip(("en-us", "en-us+f3", "en-us"), sorted(tables[2]), strict=True)
    ]
    assert sorted(names) == sorted(f"{name}/{what}" for name in expected for what in ("recorded", "spectrogram"))
