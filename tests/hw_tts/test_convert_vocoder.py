"""A public HiFi-GAN becomes a checkpoint that fine-tuning starts from."""

import json

import pytest
import torch

from hw_base import checkpoint
from hw_base.config import read as config_files
from hw_base.config import resolve as config
from hw_base.runs.experiment import Experiment
from hw_tts.convert_vocoder import main
from hw_tts.models.hifigan import HiFiGAN
from hw_tts.vocoders.loading import load_vocoder
from tests.conftest import ROOT

PATH = ROOT / "configs" / "tiny" / "hifigan.json"
OLD = {
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
    "parametrizations.weight.original": "weight_orig",
    "parametrizations.weight.0._u": "weight_u",
    "parametrizations.weight.0._v": "weight_v",
}


def old(state):
    """Today's names as the public files have them."""
    named = {}
    for name, value in state.items():
        suffix = next((new for new in OLD if name.endswith(new)), "")
        named[name.removesuffix(suffix) + OLD[suffix] if suffix else name] = value
    return named


@pytest.fixture
def public(tmp_path):
    """Files of a public run with the sizes of the tiny config."""
    args = config_files.read(PATH)["model"]["args"]
    torch.manual_seed(3)
    model = HiFiGAN(n_mels=40, hop_length=128, **args)
    torch.save({"generator": old(model.generator.state_dict())}, tmp_path / "g_1")
    parts = {part: old(getattr(model.discriminator, part).state_dict()) for part in ("mpd", "msd")}
    torch.save(parts, tmp_path / "do_1")
    described = {
        "resblock": "2",
        "upsample_rates": args["upsample_rates"],
        "upsample_kernel_sizes": args["upsample_kernel_sizes"],
        "upsample_initial_channel": args["channels"],
        "resblock_kernel_sizes": args["resblock_kernel_sizes"],
        "resblock_dilation_sizes": args["resblock_dilations"],
        "sampling_rate": 16000,
        "n_fft": 512,
        "win_size": 512,
        "hop_size": 128,
        "num_mels": 40,
        "fmin": 0,
        "fmax": None,
    }
    (tmp_path / "config.json").write_text(json.dumps(described))
    return tmp_path, model


def test_training_starts_from_the_public_weights(public):
    folder, model = public
    files = ["--generator", str(folder / "g_1"), "--discriminators", str(folder / "do_1")]
    assert main([*files, "-c", str(PATH), "-o", str(folder / "vocoder.pth")]) == 0
    experiment = Experiment(config.load(PATH, [f"init_from={folder / 'vocoder.pth'}"]), torch.device("cpu"))
    started = experiment.model().state_dict()
    assert started.keys() == model.state_dict().keys()
    assert all(torch.equal(started[name], value) for name, value in model.state_dict().items())
    spectrogram = torch.randn(1, 40, 6)
    vocoded = [load_vocoder(folder / name, experiment.task.features)(spectrogram) for name in ("vocoder.pth", "g_1")]
    assert torch.equal(*vocoded)


def test_discriminators_may_be_missing(public):
    folder, model = public
    assert main(["--generator", str(folder / "g_1"), "-c", str(PATH), "-o", str(folder / "v.pth")]) == 0
    weights = checkpoint.load(folder / "v.pth")["model"]
    assert torch.equal(weights["generator.conv_pre.bias"], model.generator.conv_pre.bias)
    assert weights.keys() == model.state_dict().keys()


def test_what_does_not_fit_is_refused_in_one_line(public, capsys):
    folder, _ = public
    out = ["-o", str(folder / "v.pth")]

    def error(*arguments):
        assert main([*arguments, *out]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        return lines[0]

    generator = ["--generator", str(folder / "g_1")]
    swapped = error(*generator, "--discriminators", str(folder / "g_1"), "-c", str(PATH))
    assert 'expected {"mpd": weights, "msd": weights}' in swapped
    other = str(ROOT / "configs" / "ljspeech" / "hifigan_v3.json")
    assert "made for other mel spectrograms" in error(*generator, "-c", other)
    recognizer = str(ROOT / "configs" / "tiny" / "ds2.json")
    assert "a HiFiGAN is needed, found DeepSpeech2" in error(*generator, "-c", recognizer)
    assert not (folder / "v.pth").exists()
