"""The recipes of real corpora, run as they are on the few recordings at hand.

Only folders, batch sizes, workers, the length of training and the sizes of models are changed.
"""

import json

import numpy as np
import pytest
import soundfile
import torch

import test as test_script
import train as train_script
from hw_base import checkpoint
from hw_base.config import resolve as config
from hw_base.runs.experiment import Experiment
from hw_tts import align
from hw_tts.data.items import speaker_id
from tests.conftest import ROOT

SPLITS = ("train", "val", "test")
SHORT = ["trainer.max_steps=2", "trainer.epochs=null", "trainer.eval_every=2", "trainer.examples=1"]
ACOUSTIC = ["width=16", "ff_width=16", "predictor_width=16", "n_encoder_layers=1", "n_decoder_layers=1"]


def run(recipe, folder, sets, device="cpu"):
    """Train for two steps; the checkpoint."""
    flags = [part for item in sets for part in ("--set", item)]
    path = str(ROOT / "configs" / recipe)
    assert train_script.main(["-c", path, "--run-dir", str(folder), "-d", device, *flags]) == 0
    return folder / "checkpoint-00000002.pth"


def figures(path, folder, *sets):
    """The metrics of the checkpoint, by split."""
    flags = [part for item in sets for part in ("--set", item)]
    assert test_script.main(["-r", str(path), "-d", "cpu", "-o", str(folder / "output.json"), *flags]) == 0
    return json.loads((folder / "metrics.json").read_text())["output.json"]["splits"]


def rooted(split, root, place=0):
    return f"data.{split}.datasets.{place}.args.root={root}"


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("fastspeech.yaml", "fastspeech2_learned.json")]


@pytest.mark.parametrize("name", ["fastspeech2.json", *SLOW])
def test_ljspeech_recipes_run_on_the_clips_at_hand(real_data, tmp_path, name):
    root = real_data / "LJSpeech-1.1"
    sets = [rooted(split, root) for split in SPLITS]
    if name != "fastspeech2_learned.json":
        sets += [f"data.{split}.datasets.0.args.alignments={root / 'alignments.zip'}" for split in SPLITS]
    sets += ["data.train.batch_size=4", "data.train.workers=0", *SHORT, *(f"model.args.{size}" for size in ACOUSTIC)]
    path = run(f"ljspeech/{name}", tmp_path / "run", sets)
    state = checkpoint.load(path)
    assert state["step"] == 2
    assert finite(state)
    assert set(figures(path, tmp_path)["test"]) >= {"mcd", "voicing_error", "speaking_rate_error", "log_mel_l1", "stoi"}


SMALL = ["inter_channels=16", "hidden_channels=16", "filter_channels=32", "speaker_channels=8", "n_layers=3"]
SMALL += ["posterior_layers=2", "n_flows=2", "flow_layers=1", "duration_channels=16", "upsample_initial_channels=16"]
SMALL += ["resblock_kernel_sizes=[3]", "resblock_dilations=[[1,3,5]]", "segment_frames=16"]
SMALL += ["discriminator_periods=[2]", "discriminator_channels=8"]
VITS2 = [*(f"model.args.{size}" for size in SMALL), "data.train.batch_size=4", "data.train.workers=0", *SHORT]


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["mb_istft_vits2", "mini_istft_vits2"])
def test_ljspeech_recipe_of_vits2_runs_on_the_clips_at_hand(real_data, tmp_path, preset):
    sets = [*(rooted(split, real_data / "LJSpeech-1.1") for split in SPLITS), *SHORT, f"model.args.preset={preset}"]
    sets += [f"model.args.{size}" for size in SMALL if size.split("=")[0] not in ("hidden_channels", "n_layers")]
    sets += ["data.train.batch_size=4", "data.train.workers=0", "data.train.limit=8", "data.val.limit=1"]
    if preset == "mini_istft_vits2":  # which has no sub-bands
        sets.append("losses={mel: 45.0, kl: 1.0, duration: 1.0, adversarial: 1.0, feature_matching: 1.0}")
    path = run("ljspeech/vits2.json", tmp_path / "run", sets)
    assert finite(checkpoint.load(path))
    assert {"mcd", "log_mel_l1"} <= set(figures(path, tmp_path)["test"])


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
    """As the heads of the configs say it, from the FastSpeech2 that finds the durations on."""
    few = ["data.train.limit=6", 'metrics={"log_mel_l1": "LogMelL1"}', "trainer.monitor=null"]
    sets = [rooted(split, real_data / "LibriSpeech") for split in ("train", "test")]
    sets += [*few, "data.test.limit=1", *SHORT, *(f"model.args.{size}" for size in ACOUSTIC)]
    acoustic = run("librispeech_mini/fastspeech2.json", tmp_path / "acoustic", sets)
    for split in ("train", "test"):
        assert align.main(["-r", str(acoustic), "--split", split, "-o", str(tmp_path / "aligned")]) == 0
    sets = [f"data.*.datasets.*.args.dataset.args.root={real_data / 'LibriSpeech'}", "data.val.limit=1", *few]
    sets += [f"data.*.datasets.*.args.alignments={tmp_path / 'aligned'}", "data.*.datasets.*.args.on_missing=skip"]
    first = run("vctk_mini/pretrain.json", tmp_path / "first", [*sets, *VITS2])
    sets = [rooted(split, real_data / "VCTK-Corpus-0.92") for split in ("train", "val")]
    sets += [*few, "data.val.limit=2", "data.train.limit=12"]
    tuned = run("vctk_mini/finetune.json", tmp_path / "tuned", [*sets, *VITS2, f"init_from={first}"])
    before, after = checkpoint.load(first), checkpoint.load(tuned)
    assert set(before["task"]["speakers"]) <= {"19", "26", "27"}
    assert set(after["task"]["speakers"][len(before["task"]["speakers"]) :]) == {"p225", "p226", "p227", "p228"}
    assert after["text_encoder"] == before["text_encoder"]
    assert finite(after)
    assert figures(tuned, tmp_path)["val"]["log_mel_l1"] > 0


NEW = ["p329", "p294", "p257", "p276", "p308"]


def vctk(root, speakers):
    """A corpus of the official tree with a second of noise where each of these speakers said sentences 1 and 10."""
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 22050)
    for speaker in speakers:
        audio, texts = root / "wav48_silence_trimmed" / speaker, root / "txt" / speaker
        audio.mkdir(parents=True)
        texts.mkdir(parents=True)
        for number in (1, 10):
            soundfile.write(audio / f"{speaker}_{number:03}_mic1.flac", noise, 22050)
            (texts / f"{speaker}_{number:03}.txt").write_text("Please call Stella.")
    return root


def experiment(name, root, *sets):
    """What trains by a recipe of VCTK, with its speakers known."""
    sets = [*(rooted(split, root) for split in SPLITS), *sets]
    made = Experiment(config.load(ROOT / "configs" / "vctk" / f"{name}.json", sets), torch.device("cpu"))
    made.task.fit_vocabulary(made.split("train", evaluation=False), made.origin)
    return made


def test_new_speakers_get_the_homeworks_ids(tmp_path):
    named = json.loads((ROOT / "configs" / "vctk" / "vits2.json").read_text())
    known = named["data"]["train"]["datasets"][0]["args"]["speakers"]
    root = vctk(tmp_path / "VCTK", sorted([*known, *NEW]))
    first = experiment("vits2", root)
    assert first.task.speakers == known
    assert first.task.model_arguments()["n_speakers"] == 103
    trained = {"text_encoder": first.task.text_encoder.state_dict(), "task": first.task.state_dict()}
    trained |= {"model": {}, "step": 0}
    checkpoint.save(tmp_path / "first.pth", {"config": config.as_dict(first.config), **trained})
    tuned = experiment("vits2_finetune", root, f"init_from={tmp_path / 'first.pth'}")
    assert tuned.task.model_arguments()["n_speakers"] == 108
    speakers = tuned.task.item_maker(True).speakers
    ids = {r.speaker: speaker_id(r, speakers) for r in tuned.split("train", evaluation=False).records}
    assert ids == {"p329": 103, "p294": 104, "p257": 105, "p276": 106, "p308": 107}
    assert experiment("vits2_scratch", root).task.speakers == NEW


@pytest.mark.parametrize("name", ["vits2", "vits2_finetune", "vits2_scratch"])
def test_recipes_of_vctk_have_the_homeworks_constants(name):
    recipe = config.load(ROOT / "configs" / "vctk" / f"{name}.json")
    features, model = recipe.features.args, recipe.model.args
    assert [features[key] for key in ("sample_rate", "n_fft", "hop_length", "win_length")] == [22050, 1024, 256, 1024]
    assert (features["n_mels"], features["f_min"], features["f_max"]) == (80, 0.0, None)
    assert model["segment_frames"] * features["hop_length"] == 8192
    assert (model["preset"], model["flow"], model["bank"]) == ("mb_istft_vits2", "pre_conv2", "exact")
    assert recipe.text_encoder.args["add_blank"]
    assert recipe.data["train"].batch_size == 32
    assert {key: loss.weight for key, loss in recipe.losses.items() if loss.weight != 1.0} == {"mel": 45.0}
    assert recipe.losses["subband_stft"].args == {
        "fft_sizes": [384, 683, 171],
        "hop_sizes": [30, 60, 10],
        "window_sizes": [150, 300, 60],
    }
    for optimizer in recipe.optimizers.values():
        wanted = {"lr": 2e-4, "betas": [0.8, 0.99], "eps": 1e-9, "weight_decay": 0.01}
        assert {key: optimizer.args[key] for key in wanted} == wanted
        assert optimizer.scheduler.args["gamma"] == 0.999875
        assert (optimizer.scheduler.type, optimizer.scheduler.every) == ("ExponentialLR", "epoch")
    trainer = recipe.trainer
    if name == "vits2":
        assert trainer.max_steps == 312_000
    else:
        assert (trainer.epochs, trainer.eval_first) == (50, True)
        assert trainer.eval_every == trainer.save_every == "5 epochs"
