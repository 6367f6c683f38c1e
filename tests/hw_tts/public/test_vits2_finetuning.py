"""Public VITS2 checkpoints: constants among the weights, features, and what fine-tuning compares and resumes."""

import json

import pytest
import torch

import train as train_script
from hw_base import checkpoint
from hw_base.config import resolve as config
from hw_base.registry import FEATURES
from hw_base.runs.experiment import Experiment
from hw_tts.models.vits2 import VITS2
from hw_tts.public import vits2_weights as public_checkpoint
from hw_tts.public.vits2_config import convert
from hw_tts.synthesizer import Synthesizer
from tests.conftest import ROOT, same
from tests.hw_tts.test_import_checkpoint import (  # noqa: F401
    SYMBOLS,
    files,
    imported,
    numbers,
    original_config,
    originals,
    run,
    with_moments,
)


@pytest.fixture(scope="module")
def multi_stream(numbers, originals, tmp_path_factory):
    """A public multi-stream generator: a constant stands among its weights, which the optimizer does not count."""
    folder = tmp_path_factory.mktemp("streams")
    model = {**numbers["config"]["model"], "mb_istft_vits": False, "ms_istft_vits": True}
    tree = {**original_config(numbers), "model": model}
    (folder / "config.json").write_text(json.dumps(tree))
    arguments = convert(tree, "x", 40, SYMBOLS[1:])["model"]["args"]
    sizes = {"n_mels": 80, "n_tokens": 40, "n_speakers": 5, "hop_length": 256}
    torch.manual_seed(5)
    generator = VITS2(**sizes, **{**arguments, "discriminator_channels": 16}).generator
    weights = {public_checkpoint.public_name(key): value for key, value in generator.state_dict().items()}
    content = with_moments(weights, 244, 0)
    constant = torch.zeros(4, 4, 4)
    for stream in range(4):
        constant[stream, stream, 0] = 1.0
    content["model"] = {**weights, "dec.updown_filter": constant}
    torch.save(content, folder / "G_312000.pth")
    return folder


def test_a_multi_stream_checkpoint_goes_in_and_out(multi_stream, originals, numbers, tmp_path):
    source = multi_stream / "G_312000.pth"
    arguments = ["--config", multi_stream / "config.json", "--symbols", originals / "symbols.json"]
    assert run(source, *arguments, "-o", tmp_path / "out.pth") == 0
    state = checkpoint.load(tmp_path / "out.pth")
    assert len(state["optimizations"]["generator"]["optimizer"]["state"]) > 400
    inputs = numbers["inputs"]
    made = Synthesizer.load(tmp_path / "out.pth").model.synthesize(inputs["x"], inputs["x_lengths"], inputs["sid"])
    assert bool(made["waveform"].isfinite().all())
    assert run(tmp_path / "out.pth", "--export", tmp_path) == 0
    expected, found = (torch.load(path, weights_only=True) for path in (source, tmp_path / "G_312000.pth"))
    assert same(found, expected)


def test_another_filter_of_streams_is_refused(multi_stream, originals, tmp_path, capsys):
    content = torch.load(multi_stream / "G_312000.pth", weights_only=True)
    content["model"]["dec.updown_filter"][0, 1, 0] = 1.0
    torch.save(content, tmp_path / "G_1.pth")
    arguments = ["--config", multi_stream / "config.json", "--symbols", originals / "symbols.json"]
    assert run(tmp_path / "G_1.pth", *arguments, "-o", tmp_path / "out.pth") == 2
    assert "dec.updown_filter (4, 4, 4) is not the filter" in capsys.readouterr().err


def test_imported_features_are_the_public_log_mel(imported):
    """Numbers of the public programs' own function, silence and quiet bins included."""
    path = ROOT.parent / "shared" / "reference" / "public_vits_mel.pt"
    if not path.exists():
        pytest.skip("the reference numbers are not here")
    read = config.resolve(checkpoint.load(imported)["config"])
    features = config.build("features", read.features, FEATURES)
    for name, example in torch.load(path, weights_only=True)["examples"].items():
        difference = (features(example["waveform"]) - example["log_mel"]).abs().max()
        assert float(difference) < 2e-4, name
    assert float(features(torch.zeros(4096)).max()) < -9.0


def test_recipes_that_meet_public_weights_have_their_features(imported):
    read = config.resolve(checkpoint.load(imported)["config"]).features.args
    for recipe in ("vits2", "vits2_finetune", "vits2_scratch"):
        tree = json.loads((ROOT / "configs" / "vctk" / f"{recipe}.json").read_text())
        assert config.resolve({**tree, "init_from": None, "new_speakers": None}).features.args == read


def finetuning(imported, real_data, *sets):
    """The recipe with two new voices and the sizes of the small model."""
    before = checkpoint.load(imported)["config"]["model"]["args"]
    sets = [f"init_from={imported}", "metrics={}", f"model.args={json.dumps(before)}", "trainer.monitor=null", *sets]
    sets += ["trainer.epochs=null", "trainer.max_steps=1", "data.train.workers=0", "trainer.eval_first=false"]
    args = {"root": str(real_data / "VCTK-Corpus-0.92"), "part": "all", "speakers": ["p227", "p225"], "sentences": [3]}
    dataset = json.dumps([{"type": "VCTK", "args": args}])
    return [*sets, *(f"data.{split}.datasets={dataset}" for split in ("train", "val"))]


def test_arguments_that_carry_no_weights_must_be_those_of_the_checkpoint(imported, real_data, capsys):
    sets = finetuning(imported, real_data, "new_speakers=MeanSpeaker", "model.args.bank=exact")
    flags = [part for item in [*sets, "model.args.dropout=0.3"] for part in ("--set", item)]
    recipe = str(ROOT / "configs" / "vctk" / "vits2_finetune.json")
    assert train_script.main(["-c", recipe, "--dry-run", "-d", "cpu", *flags]) == 2
    error = capsys.readouterr().err
    assert 'model.args.bank is "public" there, "exact" here' in error
    assert "dropout" not in error


def test_the_noise_of_the_alignment_search_resumes_at_the_checkpoints_step(imported, real_data):
    sets = finetuning(imported, real_data, "new_speakers=MeanSpeaker")
    raw = json.loads((ROOT / "configs" / "vctk" / "vits2_finetune.json").read_text())
    trainer = Experiment(config.resolve(raw, sets), torch.device("cpu")).trainer(None)
    trainer.train_step(next(iter(trainer.loader)))
    generator = trainer.model.generator
    assert (generator.step, generator.steps_before) == (0, 312000)
    assert trainer.setup.task.state_dict()["origin_step"] == 312000


def test_old_voices_are_measured_so_that_the_nearest_is_known(originals, real_data, tmp_path, capsys):
    recordings = sorted((real_data / "VCTK-Corpus-0.92").rglob("p22[58]_0*_mic1.flac"))
    lines = [f"{path}|{0 if 'p225' in path.name else 3}|text" for path in recordings[:2] + recordings[-2:]]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    arguments = ["--config", originals / "finetune.json", "--symbols", originals / "symbols.json"]
    arguments += ["-o", tmp_path / "out.pth", "--measure", tmp_path / "list.txt"]
    assert run(*files(originals), *arguments) == 0
    voices = checkpoint.load(tmp_path / "out.pth")["task"]["voices"]
    assert sorted(voices) == ["0", "3"]
    assert all(voice.shape == (2 + 2 * 80,) and bool(voice.isfinite().all()) for voice in voices.values())
    (tmp_path / "list.txt").write_text(f"{recordings[0]}|7|text")
    assert run(*files(originals), *arguments) == 2
    assert "--measure: the checkpoint has no speakers 7; it has 0 to 4" in capsys.readouterr().err
