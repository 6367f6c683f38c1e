"""The recipes of real corpora, run as they are on the few recordings at hand.

Only folders, batch sizes, workers, the length of training and the sizes of models are changed.
"""

import json

import pytest
import torch

import test as test_script
import train as train_script
from hw_base import checkpoint
from tests.conftest import ROOT

SPLITS = ("train", "val", "test")
SHORT = ["trainer.max_steps=2", "trainer.epochs=null", "trainer.eval_every=2", "trainer.examples=1"]
ACOUSTIC = ["width=16", "ff_width=16", "predictor_width=16", "n_encoder_layers=1", "n_decoder_layers=1"]


def run(config, folder, sets, device="cpu"):
    """Train for two steps; the checkpoint."""
    flags = [part for item in sets for part in ("--set", item)]
    path = str(ROOT / "configs" / config)
    assert train_script.main(["-c", path, "--run-dir", str(folder), "-d", device, *flags]) == 0
    return folder / "checkpoint-00000002.pth"


def figures(path, folder, *sets):
    """The metrics of the checkpoint, by split."""
    flags = [part for item in sets for part in ("--set", item)]
    assert test_script.main(["-r", str(path), "-d", "cpu", "-o", str(folder / "output.json"), *flags]) == 0
    return json.loads((folder / "metrics.json").read_text())


def rooted(split, root, place=0):
    return f"data.{split}.datasets.{place}.args.root={root}"


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("fastspeech", "fastspeech2_learned")]


@pytest.mark.parametrize("name", ["fastspeech2", *SLOW])
def test_ljspeech_recipes_run_on_the_clips_at_hand(real_data, tmp_path, name):
    root = real_data / "LJSpeech-1.1"
    sets = [rooted(split, root) for split in SPLITS]
    if name != "fastspeech2_learned":
        sets += [f"data.{split}.datasets.0.args.alignments={root / 'alignments.zip'}" for split in SPLITS]
    sets += ["data.train.batch_size=4", "data.train.workers=0", *SHORT, *(f"model.args.{size}" for size in ACOUSTIC)]
    path = run(f"ljspeech/{name}.json", tmp_path / "run", sets)
    state = checkpoint.load(path)
    assert state["step"] == 2
    assert finite(state)
    assert set(figures(path, tmp_path)["test"]) >= {"mcd", "voicing_error", "speaking_rate_error", "log_mel_l1", "stoi"}


SMALL = ["inter_channels=16", "hidden_channels=16", "filter_channels=32", "speaker_channels=8", "n_layers=3"]
SMALL += ["posterior_layers=2", "n_flows=2", "flow_layers=1", "duration_channels=16", "upsample_initial_channels=16"]
SMALL += ["resblock_kernel_sizes=[3]", "resblock_dilations=[[1,3,5]]", "segment_frames=16"]
SMALL += ["discriminator_periods=[2]", "discriminator_channels=8"]
VITS2 = [*(f"model.args.{size}" for size in SMALL), "data.train.batch_size=4", "data.train.workers=0", *SHORT]


def clips(root, speakers, **sentences):
    """Sets that give each split clips of these speakers; the corpus's own parts need more than there are."""
    for split, numbers in sentences.items():
        yield rooted(split, root)
        yield f"data.{split}.datasets.0.args.part=all"
        yield f"data.{split}.datasets.0.args.speakers={json.dumps(speakers)}"
        yield f"data.{split}.datasets.0.args.sentences={numbers}"


def finite(state):
    return all(bool(torch.isfinite(value).all()) for value in state["model"].values() if value.is_floating_point())


@pytest.mark.slow
def test_vctk_recipes_learn_new_speakers_and_begin_anew(real_data, tmp_path):
    root = real_data / "VCTK-Corpus-0.92"
    split = {"train": [3, 8], "val": [19], "test": [24]}
    known, new = ["p226", "p225"], ["p228", "p227"]
    first = run("vctk/vits2.json", tmp_path / "first", [*clips(root, known, **split), *VITS2])
    sets = [*clips(root, new, **split), *VITS2]
    tuned = run("vctk/vits2_finetune.json", tmp_path / "tuned", [*sets, f"init_from={first}"])
    anew = run("vctk/vits2_scratch.json", tmp_path / "anew", sets)
    states = {path: checkpoint.load(path) for path in (first, tuned, anew)}
    assert [state["task"]["speakers"] for state in states.values()] == [known, known + new, new]
    assert [len(state["model"]["generator.emb_g.weight"]) for state in states.values()] == [2, 4, 2]
    assert all(finite(state) and state["step"] == 2 for state in states.values())
    rows = [json.loads(line) for line in (tmp_path / "tuned" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "mcd" in row] == [0, 2]
    measured = figures(tuned, tmp_path)["test"]
    assert {"mcd", "mcd/p227", "mcd/p228", "log_mel_l1", "timbre"} <= set(measured), sorted(measured)


def test_a_small_model_of_librispeech_readers_learns_vctk_voices(real_data, tmp_path):
    sets = [rooted(split, real_data / "LibriSpeech") for split in ("train", "val")]
    sets += ["data.train.limit=6", "data.val.limit=1", 'metrics={"log_mel_l1": "LogMelL1"}', "trainer.monitor=null"]
    first = run("vctk_mini/pretrain.json", tmp_path / "first", [*sets, *VITS2])
    sets = [rooted(split, real_data / "VCTK-Corpus-0.92") for split in ("train", "val")]
    sets += ["data.val.limit=2", 'metrics={"log_mel_l1": "LogMelL1"}', "trainer.monitor=null", "data.train.limit=12"]
    tuned = run("vctk_mini/finetune.json", tmp_path / "tuned", [*sets, *VITS2, f"init_from={first}"])
    before, after = checkpoint.load(first), checkpoint.load(tuned)
    assert set(before["task"]["speakers"]) <= {"19", "26", "27"}
    assert set(after["task"]["speakers"][len(before["task"]["speakers"]) :]) == {"p225", "p226", "p227", "p228"}
    assert after["text_encoder"] == before["text_encoder"]
    assert finite(after)
    assert figures(tuned, tmp_path)["val"]["log_mel_l1"] > 0
