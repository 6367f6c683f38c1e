"""Configs of this project as public ones, and back."""

import json

import pytest

from hw_base.config import read as config_files
from hw_base.config import resolve as config
from hw_base.config.resolve import as_dict
from hw_tts.models.vits2.sizes import PRESETS, preset_with
from hw_tts.public import vits2_config as public_config
from hw_tts.public import vits2_config_export as public_config_back
from tests.conftest import ROOT

RECIPES = [
    "configs/vctk/vits2.json",
    "configs/ljspeech/vits2.json",
    "configs/vits2.json",
    "configs/vctk_mini/pretrain.json",
]
PRESET_KEYS = set(vars(PRESETS["vits2"]))


def complete(path, *overrides):
    return as_dict(config.resolve(config_files.read(ROOT / path), list(overrides)))


def there_and_back(tree, n_speakers):
    public, lost = public_config_back.revert(tree, n_speakers, add_blank=True)
    public = json.loads(json.dumps(public))
    assert public_config.left_out(public) == []
    back = public_config.convert(public, tree["name"], n_tokens=3, symbols=["a", "b"])
    back["data"] = tree["data"]  # other data than lists of files have no counterpart
    return as_dict(config.resolve(back)), lost


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_is_what_it_was_but_for_what_is_said(path):
    tree = complete(path)
    n_speakers = 1 if "ljspeech" in path else 4
    back, lost = there_and_back(tree, n_speakers)
    said = " ".join(lost)
    chosen = preset_with(tree["model"]["args"]["preset"])
    for key, value in tree["model"]["args"].items():
        if key in PRESET_KEYS and value is None:
            value = getattr(chosen, key)
        found = back["model"]["args"][key]
        if key in PRESET_KEYS:
            value, found = (list(v) if isinstance(v, tuple) else v for v in (value, found))
        unsaid = key in ("preset", "alignment", "search_prior_steps")  # only training asks for them
        assert found == value or unsaid or f"model.args.{key} " in said, key
    for key in public_config.FEATURE_KEYS.values():
        assert back["features"]["args"][key] == tree["features"]["args"][key]
    assert back["losses"].keys() == tree["losses"].keys()
    for key, loss in tree["losses"].items():
        assert back["losses"][key]["weight"] == loss["weight"]
    assert back["optimizers"]["generator"]["args"]["lr"] == tree["optimizers"]["generator"]["args"]["lr"]
    assert back["data"]["train"]["batch_size"] == tree["data"]["train"]["batch_size"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_told_by_its_sizes(preset):
    tree = complete("configs/vctk/vits2.json", f"model.args.preset={preset}")
    back, _ = there_and_back(tree, 4)
    for key, value in vars(PRESETS[preset]).items():
        found = back["model"]["args"][key]
        assert (tuple(found) if isinstance(value, tuple) else found) == value


def test_what_no_public_key_can_say_is_told():
    tree = complete(
        "configs/vctk/vits2.json", "model.args.bank=exact", "model.args.n_flows=2", "features.args.power=2",
        "losses.duration=2.0", "optimizers.generator.scheduler=null", "losses.mel.args.f_max=8000.0",
        "model.args.condition_decoder=true", "features.args.f_max=null",
    )  # fmt: skip
    _, lost = public_config_back.revert(tree, 4, add_blank=True)
    assert lost == [
        "model.args.n_flows is 2, the public program always has 4",
        "model.args.bank is 'exact', the public program always has 'public'",
        "model.args.condition_decoder is True, the public program always has False",
        "features.args.power is 2, the public program always has 1",
        "losses.duration.weight is 2.0, the public program always has 1.0",
        "optimizers.generator.scheduler: the public program has ExponentialLR by epochs; written as none",
        "losses.mel.args.f_max: the public program has one mel_fmax; written as that of the features",
    ]


def test_losses_and_optimizers_of_any_kind():
    few = ('losses={"kl": 1.0}', 'optimizers.generator={"type": "SGD", "args": {"lr": 0.1}}')
    public, lost = public_config_back.revert(complete("configs/vctk/vits2.json", *few), 4, add_blank=True)
    assert (public["train"]["c_mel"], public["train"]["c_kl"], public["train"]["learning_rate"]) == (0.0, 1.0, 0.1)
    assert "optimizers.generator.type: the public program has AdamW" in lost
