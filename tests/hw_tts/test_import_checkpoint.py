"""Public checkpoints in and out; the originals are made of the reference numbers."""

import json
import os
import pickle

import pytest
import torch

import train as train_script
from hw_base import checkpoint
from hw_base.config import resolve as config
from hw_base.errors import CheckpointError, ConfigError
from hw_base.runs.experiment import Experiment
from hw_tts import import_checkpoint
from hw_tts.public import vits2_weights as public_checkpoint
from hw_tts.synthesizer import Synthesizer
from tests.conftest import ROOT, same
from tests.homework import PUBLIC_CONFIG
from tests.hw_tts.models.vits2.small import reference, small_model

SYMBOLS = ["_", " ", *"abcdefghijklmnopqrstuvwxyz.,!?;:'-\"()/"]


@pytest.fixture(scope="module")
def numbers():
    return reference()


def original_config(numbers):
    train = {key: value for key, value in PUBLIC_CONFIG["train"].items() if key != "window"}
    audio = ("sampling_rate", "filter_length", "hop_length", "win_length", "n_mel_channels", "mel_fmin", "mel_fmax")
    return {
        "train": {**train, "epochs": 250},
        "data": {
            "training_files": "lists/train.txt",
            "validation_files": "lists/val.txt",
            **{key: PUBLIC_CONFIG["data"][key] for key in (*audio, "add_blank")},
            "n_speakers": 5,
        },
        "model": numbers["config"]["model"],
        "wandb": {"project": "x"},
    }


def with_moments(weights, epoch, seed):
    """What the public program saves: weights, and Adam's state numbered in their order."""
    torch.manual_seed(seed)
    parameters = [torch.nn.Parameter(value.clone()) for value in weights.values()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-4, betas=(0.8, 0.99), eps=1e-9)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.999875)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    schedule.step()
    return {"model": weights, "iteration": epoch, "optimizer": optimizer.state_dict(), "learning_rate": 2e-4}


def discriminator_weights():
    from hw_tts.models.vits2.discriminators import Discriminators

    torch.manual_seed(3)
    return {
        public_checkpoint.public_name(key): value for key, value in Discriminators(channels=16).state_dict().items()
    }


@pytest.fixture(scope="module")
def originals(numbers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    contents = {"G": numbers["model"], "D": discriminator_weights(), "DUR": numbers["dur_disc"]}
    for seed, (prefix, weights) in enumerate(contents.items()):
        torch.save(with_moments(weights, 244, seed), folder / f"{prefix}_312000.pth")
    (folder / "finetune.json").write_text(json.dumps(original_config(numbers)))
    (folder / "symbols.json").write_text(json.dumps(SYMBOLS))
    assert len(SYMBOLS) == 40
    return folder


def run(*arguments):
    return import_checkpoint.main([str(argument) for argument in arguments])


def files(folder, *prefixes):
    return [folder / f"{prefix}_312000.pth" for prefix in prefixes or ("G", "D", "DUR")]


@pytest.fixture(scope="module")
def imported(originals, tmp_path_factory):
    output = tmp_path_factory.mktemp("imported") / "checkpoint.pth"
    arguments = ["--config", originals / "finetune.json", "--symbols", originals / "symbols.json", "-o", output]
    assert run(*files(originals), *arguments) == 0
    return output


def test_an_imported_checkpoint_speaks_like_the_original(imported, numbers):
    speaker = Synthesizer.load(imported)
    inputs, expected = numbers["inputs"], numbers["outputs"]["infer"]["wav"].squeeze(1)
    made = speaker.model.synthesize(inputs["x"], inputs["x_lengths"], inputs["sid"], noise=0.0)
    assert float((made["waveform"][0] - expected[0]).norm()) < 1e-4 * float(expected[0].norm())
    assert speaker.speakers == ["0", "1", "2", "3", "4"]
    assert speaker.sample_rate == 22050
    assert speaker.task.text_encoder.table == SYMBOLS[1:]
    assert speaker.task.text_encoder.add_blank


def test_what_stands_in_the_checkpoint(imported):
    state = checkpoint.load(imported)
    assert (state["step"], state["epoch"], state["batch"]) == (312000, 244, 0)
    read = config.resolve(state["config"])
    assert read.model.args["bank"] == "public"
    assert read.model.args["segment_frames"] == 8
    assert read.features.args["padding"] == "same"
    assert {name: loss.weight for name, loss in read.losses.items()} == {
        "mel": 45.0,
        "kl": 1.0,
        "duration": 1.0,
        "adversarial": 1.0,
        "feature_matching": 1.0,
        "subband_stft": 1.0,
        "adversarial_duration": 1.0,
    }
    assert read.optimizers["generator"].scheduler.every == "epoch"
    assert read.data["train"].batch_size == 32


def test_training_goes_on_from_the_moments(imported, originals):
    state = checkpoint.load(imported)
    experiment = Experiment(config.resolve(state["config"]), torch.device("cpu"), state)
    model = experiment.model()
    optimizations = experiment._optimizations(model, 10, None, True)
    for name, optimization in optimizations.items():
        optimization.load_state_dict(state["optimizations"][name])
        prefix = public_checkpoint.PREFIXES[name]
        original = torch.load(originals / f"{prefix}_312000.pth", weights_only=True)
        assert optimization.lr == original["optimizer"]["param_groups"][0]["lr"]
        names = [public_checkpoint.public_name(key) for key, _ in model.parameter_groups()[name].named_parameters()]
        theirs = dict(zip(original["model"], original["optimizer"]["state"].values(), strict=True))
        for key, parameter in zip(names, optimization.parameters, strict=True):
            ours = optimization.optimizer.state[parameter]
            assert torch.equal(ours["exp_avg"], theirs[key]["exp_avg"])
            assert torch.equal(ours["exp_avg_sq"], theirs[key]["exp_avg_sq"])
            parameter.grad = torch.zeros_like(parameter)
        optimization.optimizer.step()


def test_there_and_back_again(imported, originals, tmp_path):
    assert run(imported, "--export", tmp_path) == 0
    for path in files(originals):
        expected = torch.load(path, weights_only=True)
        found = torch.load(tmp_path / path.name, weights_only=True)
        assert list(found["model"]) == list(expected["model"])
        assert same(found, expected)
    assert json.loads((tmp_path / "config.json").read_text()) == json.loads((originals / "finetune.json").read_text())


def test_what_was_trained_here_is_exported_with_a_config_and_symbols(imported, tmp_path):
    state = checkpoint.load(imported)
    del state["original_config"]
    del state["config"]["model"]["args"]["search_prior_steps"]  # as in a checkpoint from before there was one
    written = import_checkpoint.export(state, tmp_path)
    assert [path.name for path in written[3:]] == ["config.json", "symbols.json"]
    arguments = ["--config", tmp_path / "config.json", "--symbols", tmp_path / "symbols.json"]
    assert run(*written[:3], *arguments, "-o", tmp_path / "again.pth") == 0
    again = checkpoint.load(tmp_path / "again.pth")
    for key in ("model", "text_encoder", "task", "optimizations", "step", "epoch"):
        assert same(again[key], state[key]), key
    assert again["config"]["model"]["args"].pop("search_prior_steps") == 0
    for key in ("features", "model", "losses", "optimizers"):
        assert again["config"][key] == state["config"][key]


def test_another_rate_in_the_config_counts_and_leaves_the_files_as_they_were(numbers, originals, tmp_path):
    output = tmp_path / "checkpoint.pth"
    path = changed(numbers, tmp_path, "train", learning_rate=1e-4)
    assert run(*files(originals), "--config", path, "--symbols", originals / "symbols.json", "-o", output) == 0
    state = checkpoint.load(output)
    experiment = Experiment(config.resolve(state["config"]), torch.device("cpu"), state)
    optimization = experiment._optimizations(experiment.model(), 10, None, True)["generator"]
    optimization.load_state_dict(state["optimizations"]["generator"])
    assert optimization.lr == pytest.approx(0.5 * 2e-4 * 0.999875)
    assert run(output, "--export", tmp_path) == 0
    for original in files(originals):
        assert same(torch.load(tmp_path / original.name, weights_only=True), torch.load(original, weights_only=True))


def test_missing_discriminators_begin_anew_and_are_said_so(originals, tmp_path, caplog):
    output = tmp_path / "checkpoint.pth"
    arguments = ["--config", originals / "finetune.json", "--symbols", originals / "symbols.json", "-o", output]
    with caplog.at_level("WARNING"):
        assert run(originals / "G_312000.pth", *arguments) == 0
    assert "no file of the discriminator (D_<step>.pth): it starts from scratch" in caplog.text
    assert "no file of the duration discriminator (DUR_<step>.pth): it starts from scratch" in caplog.text
    state = checkpoint.load(output)
    assert state["optimizations"]["discriminator"]["optimizer"]["state"] == {}
    assert len(state["optimizations"]["generator"]["optimizer"]["state"]) > 400
    experiment = Experiment(config.resolve(state["config"]), torch.device("cpu"), state)
    for name, optimization in experiment._optimizations(experiment.model(), 10, None, True).items():
        optimization.load_state_dict(state["optimizations"][name])


def test_keys_without_a_counterpart_are_listed(originals, tmp_path, caplog):
    arguments = ["--config", originals / "finetune.json", "--symbols", originals / "symbols.json"]
    with caplog.at_level("INFO"):
        assert run(*files(originals), *arguments, "-o", tmp_path / "checkpoint.pth") == 0
    assert "not taken over from the config: train.warmup_epochs" in caplog.text
    assert "not taken over from the config: wandb.project" in caplog.text
    assert "c_mel" not in caplog.text


def changed(numbers, folder, section, **keys):
    tree = original_config(numbers)
    tree[section] = {**tree[section], **keys}
    path = folder / "changed.json"
    path.write_text(json.dumps(tree))
    return path


def refused(capsys, originals, path, *more):
    arguments = ["--config", path, "--symbols", originals / "symbols.json", "-o", path.with_suffix(".pth")]
    assert run(*files(originals), *arguments, *more) == 2
    assert not path.with_suffix(".pth").exists()
    return capsys.readouterr().err


def test_every_tensor_that_does_not_fit_is_listed(numbers, originals, tmp_path, capsys):
    path = changed(numbers, tmp_path, "model", hidden_channels=18, filter_channels=48)
    errors = refused(capsys, originals, path).splitlines()
    assert any("enc_p.emb.weight is (40, 16), the config makes it (40, 18)" in line for line in errors)
    assert any("dur_proj.weight is (16, 1, 1), the config makes it (18, 1, 1)" in line for line in errors)
    assert len(errors) > 100


def test_the_number_of_speakers_is_the_checkpoints_and_said_so(numbers, originals, tmp_path, caplog):
    path = changed(numbers, tmp_path, "data", n_speakers=108)
    output = tmp_path / "out.pth"
    with caplog.at_level("WARNING"):
        assert run(*files(originals), "--config", path, "--symbols", originals / "symbols.json", "-o", output) == 0
    assert "has 5 speakers, the config says 108" in caplog.text
    assert checkpoint.load(output)["task"]["speakers"] == ["0", "1", "2", "3", "4"]
    assert run(output, "--export", tmp_path / "back") == 0
    assert json.loads((tmp_path / "back" / "config.json").read_text())["data"]["n_speakers"] == 5


def test_another_number_of_symbols_is_said_so(numbers, originals, tmp_path, capsys):
    (tmp_path / "symbols.txt").write_text("_\na\n \nb\n", encoding="utf-8")
    assert import_checkpoint.read_symbols(tmp_path / "symbols.txt") == ["a", " ", "b"]
    path = changed(numbers, tmp_path, "data")
    errors = refused(capsys, originals, path, "--symbols", tmp_path / "symbols.txt")
    assert "3 symbols and the padding do not fit the checkpoint's table of 40" in errors
    arguments = ["--config", path, "-o", tmp_path / "out.pth"]
    assert run(*files(originals), *arguments) == 2
    assert "no public table has 40 symbols; give the program's with --symbols FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("section", "keys", "message"),
    [
        (
            "model",
            {"transformer_flow_type": "fft"},
            "model.transformer_flow_type: only pre_conv2 is offered, found 'fft'",
        ),
        ("model", {"use_spectral_norm": True}, "model.use_spectral_norm: true is not offered"),
        ("model", {"istft_vits": True}, "only one of mb_istft_vits, ms_istft_vits, istft_vits can be true"),
        ("model", {"use_mel_posterior_encoder": False}, "a linear spectrogram, is not offered"),
        ("model", {"duration_discriminator_type": "dur_disc_1"}, "only dur_disc_2 is offered"),
    ],
)
def test_what_is_not_offered_is_said_so(numbers, originals, tmp_path, capsys, section, keys, message):
    assert message in refused(capsys, originals, changed(numbers, tmp_path, section, **keys))


def test_files_that_are_none(numbers, originals, tmp_path):
    given = original_config(numbers)
    torch.save({"model": {"x": torch.zeros(1)}}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    symbols = SYMBOLS[1:]
    for path, message in (
        (tmp_path / "other.pth", "holds neither a generator nor a discriminator"),
        (tmp_path / "list.pth", "no table of tensors named 'model'"),
        (tmp_path / "none.pth", "no such file"),
    ):
        with pytest.raises(CheckpointError, match=message):
            import_checkpoint.import_files([path], given, "x", symbols)
    with pytest.raises(CheckpointError, match="none of the files is a generator's"):
        import_checkpoint.import_files([originals / "D_312000.pth"], given, "x", symbols)
    with pytest.raises(CheckpointError, match="a second generator"):
        import_checkpoint.import_files([originals / "G_312000.pth"] * 2, given, "x", symbols)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_hostile_file_is_refused_and_nothing_runs(numbers, tmp_path, capsys):
    trap = tmp_path / "ran"
    torch.save({"model": Bomb(trap)}, tmp_path / "G_1.pth")
    (tmp_path / "G_2.pth").write_bytes(pickle.dumps(Bomb(trap)))
    path = changed(numbers, tmp_path, "data")
    for name in ("G_1.pth", "G_2.pth"):
        assert run(tmp_path / name, "--config", path, "-o", tmp_path / "out.pth") == 2
        assert "error:" in capsys.readouterr().err
    assert not trap.exists()
    assert not (tmp_path / "out.pth").exists()


def test_arguments_that_do_not_go_together(originals, imported, tmp_path, capsys):
    assert run(*files(originals)) == 2
    assert "an import needs --config" in capsys.readouterr().err
    assert run(*files(originals), "--export", tmp_path) == 2
    assert "goes with one checkpoint" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run(imported, "--export", tmp_path / "file") == 2
    assert f"error: --export {tmp_path / 'file'}: cannot be written" in capsys.readouterr().err
    (tmp_path / "bad.json").write_text('["_", 3]')
    with pytest.raises(ConfigError, match="expected a list of symbols"):
        import_checkpoint.read_symbols(tmp_path / "bad.json")


def test_only_vits2_is_exported(tmp_path):
    with pytest.raises(CheckpointError, match="only a checkpoint of VITS2"):
        import_checkpoint.export({"config": {"model": {"type": "FastSpeech"}}}, tmp_path)


@pytest.mark.parametrize("kept", [0, 1])
def test_moments_that_are_not_one_group_of_all_parameters_are_left_out(imported, tmp_path, caplog, kept):
    """Some parameters were frozen, or some learned at another rate: their order is not that of the model."""
    state = checkpoint.load(imported)
    groups = state["optimizations"]["generator"]["optimizer"]["param_groups"]
    groups.append({**groups[0], "params": [groups[0]["params"].pop()]})
    del groups[1 + kept :]
    import_checkpoint.export(state, tmp_path)
    assert "generator: not all parameters were trained, or at several rates; its moments are left out" in caplog.text
    assert torch.load(tmp_path / "G_312000.pth", weights_only=True)["optimizer"] is None
    assert torch.load(tmp_path / "D_312000.pth", weights_only=True)["optimizer"] is not None


def test_names_of_public_checkpoints():
    names = [public_checkpoint.public_name(key) for key in small_model().generator.state_dict()]
    assert "dec.conv_pre.weight_g" in names
    assert not any("parametrizations" in name for name in names)


def test_the_recipe_of_fine_tuning_begins_with_it(imported, real_data, tmp_path):
    """Two new voices for the five of the public model, as ``configs/vctk/vits2_finetune.json`` says."""
    before = checkpoint.load(imported)
    sets = [f"init_from={imported}", "init_optimizers=true", "new_speakers=MeanSpeaker", "metrics={}"]
    sets += [f"model.args={json.dumps(before['config']['model']['args'])}", "trainer.monitor=null"]
    sets += ["trainer.epochs=null", "trainer.max_steps=1", "data.train.workers=0", "trainer.eval_first=false"]
    for split, sentences in (("train", [3, 8]), ("val", [19])):
        args = {"root": str(real_data / "VCTK-Corpus-0.92"), "part": "all", "speakers": ["p227", "p225"]}
        dataset = {"type": "VCTK", "args": args | {"sentences": sentences}}
        sets.append(f"data.{split}.datasets={json.dumps([dataset])}")
    flags = [part for item in sets for part in ("--set", item)]
    recipe = str(ROOT / "configs" / "vctk" / "vits2_finetune.json")
    assert train_script.main(["-c", recipe, "--run-dir", str(tmp_path / "run"), "-d", "cpu", *flags]) == 0
    after = checkpoint.load(tmp_path / "run" / "checkpoint-00000001.pth")
    assert after["task"]["speakers"] == ["0", "1", "2", "3", "4", "p227", "p225"]
    old, new = before["model"]["generator.emb_g.weight"], after["model"]["generator.emb_g.weight"]
    assert torch.allclose(new[:5], old, atol=1e-3)
    assert torch.allclose(new[5:], old.mean(dim=0).expand(2, -1), atol=1e-3)
    assert all(state["step"] == 2 for state in after["optimizations"]["generator"]["optimizer"]["state"].values())
