"""HiFi-GAN: published sizes and numbers, any sizes by arguments, the public formats, gradients everywhere."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm, weight_norm

from hw_base.errors import CheckpointError, ConfigError
from hw_tts.models.blocks.weight_norm import fold_weight_norm
from hw_tts.models.hifigan import (
    PRESETS,
    Discriminators,
    Generator,
    GeneratorSizes,
    HiFiGAN,
    MultiPeriodDiscriminator,
    generator_sizes,
    vocode,
)
from hw_tts.public.hifigan import convert_weights, from_public_discriminators, from_public_generator, sizes_of

TINY = GeneratorSizes((4, 2), (8, 4), 16, "1", (3, 5), ((1, 3), (1, 2)))
SMALL = {
    "upsample_rates": [4, 2],
    "upsample_kernel_sizes": [8, 4],
    "channels": 16,
    "resblock_kernel_sizes": [3],
    "resblock_dilations": [[1, 2]],
    "discriminator_width": 32,
}


def millions(network):
    return sum(p.numel() for p in network.parameters()) / 1e6


@pytest.mark.parametrize(("preset", "expected"), [("V1", 13.94), ("V2", 0.93), ("V3", 1.46)])
def test_the_published_generators_have_their_size(preset, expected):
    with torch.device("meta"):
        assert millions(Generator(80, PRESETS[preset])) == pytest.approx(expected, abs=0.005)


def test_the_published_discriminators_have_their_size():
    with torch.device("meta"):
        discriminators = Discriminators()
    assert millions(discriminators.mpd) == pytest.approx(41.1, abs=0.05)
    assert millions(discriminators.msd) == pytest.approx(29.6, abs=0.05)


@pytest.mark.parametrize("resblock", ["1", "2"])
def test_a_frame_becomes_hop_length_samples(resblock):
    generator = Generator(6, GeneratorSizes((4, 2), (8, 4), 16, resblock, (3, 5), ((1, 3), (1, 2))))
    waveform = generator(torch.randn(2, 6, 9))
    assert waveform.shape == (2, 1, 72)
    assert waveform.abs().max() <= 1


def test_folding_the_weight_norm_changes_no_number_and_leaves_no_norm():
    generator = Generator(6, TINY)
    spectrogram = torch.randn(2, 6, 9)
    before = generator(spectrogram)
    folded = fold_weight_norm(copy.deepcopy(generator))
    torch.testing.assert_close(folded(spectrogram), before, atol=1e-6, rtol=0)
    assert not [name for name in folded.state_dict() if "parametrizations" in name]
    assert [name for name in generator.state_dict() if "parametrizations" in name]
    torch.testing.assert_close(generator(spectrogram), before, atol=0, rtol=0)  # the original still works


def test_gradients_reach_every_parameter():
    model = HiFiGAN(n_mels=6, hop_length=8, **SMALL)
    waveform = model(torch.randn(2, 6, 40))["waveform_predicted"]
    assert waveform.shape == (2, 320)
    scores, maps = model.discriminator(waveform.unsqueeze(1))
    sum([s.square().mean() for s in scores] + [m.abs().mean() for layers in maps for m in layers]).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_no_parameter_is_in_two_groups_and_none_in_none():
    model = HiFiGAN(n_mels=6, hop_length=8, **SMALL)
    groups = model.parameter_groups()
    assert tuple(groups) == HiFiGAN.parameter_group_names
    members = [id(p) for network in groups.values() for p in network.parameters()]
    assert len(members) == len(set(members)) == len(list(model.parameters()))


def test_a_period_discriminator_sees_each_phase_of_its_period_alone():
    """With a 1-sample kernel across periods, changing samples of one phase changes the scores of that column alone."""
    discriminator = MultiPeriodDiscriminator([3], width=32).discriminators[0]
    waveform = torch.randn(1, 1, 300)
    changed = waveform.clone()
    changed[..., 1::3] += 1.0
    before, after = (discriminator(x)[0].reshape(-1, 3) for x in (waveform, changed))
    differs = (before != after).any(dim=0)
    assert differs.tolist() == [False, True, False]


def test_a_waveform_that_does_not_divide_into_periods_is_reflected():
    discriminator = MultiPeriodDiscriminator([5], width=32)
    waveform = torch.randn(2, 1, 203)
    padded = torch.cat([waveform, waveform[..., [-2, -3]]], dim=-1)
    torch.testing.assert_close(discriminator(waveform)[0][0], discriminator(padded)[0][0])


def test_every_discriminator_gives_scores_and_the_maps_of_its_layers():
    scores, maps = Discriminators([2, 3], n_scales=2, width=32)(torch.randn(2, 1, 700))
    assert [len(layers) for layers in maps] == [6, 6, 8, 8]
    assert all(s.shape == layers[-1].flatten(1).shape for s, layers in zip(scores, maps, strict=True))
    # Each scale after the first sees half the samples.
    assert maps[3][0].shape[-1] == 700 // 2 + 1


def test_a_batch_is_voiced_as_its_utterances():
    generator = Generator(6, TINY).eval()
    spectrogram, length = torch.randn(3, 6, 12), [12, 5, 9]
    together = vocode(generator, spectrogram, length, 8)
    for i, frames in enumerate(length):
        torch.testing.assert_close(together[i, : frames * 8], generator(spectrogram[i : i + 1, :, :frames])[0, 0])
        assert not together[i, frames * 8 :].any()


def test_the_waveform_is_computed_in_full_precision():
    generator = Generator(6, TINY)
    with torch.autocast("cpu", torch.bfloat16):
        waveform = generator(torch.randn(1, 6, 9))
    assert waveform.dtype == torch.float32
    assert not torch.equal(waveform, waveform.bfloat16().float())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"upsample_rates": [4, 4]}, r"make 16 samples of a frame, and features\.hop_length is 8"),
        ({"upsample_kernel_sizes": [8, 3]}, "one by one, by even numbers"),
        ({"upsample_kernel_sizes": [8]}, "one by one"),
        ({"channels": 18}, "must be divisible by 4"),
        ({"resblock_dilations": [[1], [1]]}, "one list for each"),
        ({"resblock_kernel_sizes": [4]}, "must be odd"),
        ({"periods": [], "n_scales": 0}, "no discriminator"),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(changed, message):
    with pytest.raises(ConfigError, match=message):
        HiFiGAN(n_mels=6, hop_length=8, **{**SMALL, **changed})


def test_a_preset_is_changed_by_what_is_given():
    sizes = generator_sizes({"preset": "V3", "channels": 64, "resblock": None}, 256)
    assert (sizes.channels, sizes.resblock, sizes.upsample_rates) == (64, "2", (8, 8, 4))


def test_old_norms_are_loaded_by_name():
    """The same layers, built with the functions that the public files were written with."""
    with pytest.warns(FutureWarning, match="weight_norm"):
        old = nn.Sequential(weight_norm(nn.Conv1d(2, 3, 3)), spectral_norm(nn.Conv1d(3, 4, 3)), nn.Conv1d(4, 1, 1))
    new = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Conv1d(3, 4, 3), nn.Conv1d(4, 1, 1))
    torch.nn.utils.parametrizations.weight_norm(new[0])
    torch.nn.utils.parametrizations.spectral_norm(new[1])
    new.load_state_dict(convert_weights(old.state_dict()))
    x = torch.randn(1, 2, 20)
    torch.testing.assert_close(new.eval()(x), old.eval()(x))


def test_public_discriminators_are_named_as_ours():
    ours = Discriminators(width=32).state_dict()
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    names |= {"parametrizations.weight.original": "weight_orig"}
    names |= {"parametrizations.weight.0._u": "weight_u", "parametrizations.weight.0._v": "weight_v"}
    public = {"mpd": {}, "msd": {}}
    for name, value in ours.items():
        part, _, rest = name.partition(".")
        for new, old in sorted(names.items(), key=lambda pair: -len(pair[0])):
            rest = rest.removesuffix(new) + old if rest.endswith(new) else rest
        public[part][rest] = value
    assert "discriminators.0.convs.0.weight_orig" in public["msd"]
    converted = from_public_discriminators(public)
    assert converted.keys() == ours.keys()
    assert all(torch.equal(converted[name], value) for name, value in ours.items())


def test_public_files_of_several_gpus_and_of_other_things():
    state = {"generator": {"module.conv_pre.bias": torch.zeros(3)}}
    assert set(from_public_generator(state, "file")) == {"conv_pre.bias"}
    with pytest.raises(CheckpointError, match=r"file: expected .* found the keys \['model'\]"):
        from_public_generator({"model": {}}, "file")
    with pytest.raises(CheckpointError, match="not the config of a HiFi-GAN: the key 'upsample_rates' is missing"):
        sizes_of({}, "config.json")
