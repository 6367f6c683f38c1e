import json
from typing import get_args

import pytest
import torch

from hw_base.errors import ConfigError
from hw_tts.models.vits2 import VITS2
from hw_tts.models.vits2.sizes import PRESETS, PresetName
from tests.hw_tts.models.vits2.small import FULL_KEYS, small_model

OLD = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def on_paper(n_speakers=1, n_tokens=178, **changes):
    with torch.device("meta"):
        return VITS2(n_mels=80, n_tokens=n_tokens, n_speakers=n_speakers, hop_length=256, **changes)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def public_name(name):
    for ours, theirs in OLD.items():
        name = name.replace(ours, theirs)
    return name


def test_names_order_and_shapes_are_those_of_the_public_checkpoints():
    if not FULL_KEYS.is_file():
        pytest.skip(f"no reference at {FULL_KEYS}")
    expected = json.loads(FULL_KEYS.read_text())
    with torch.device("meta"):
        groups = VITS2(n_mels=80, n_tokens=205, n_speakers=108, hop_length=256).parameter_groups()
    assert groups.keys() == expected.keys()
    for name, network in groups.items():
        shapes = {public_name(key): list(value.shape) for key, value in network.state_dict().items()}
        assert shapes == expected[name]["state_dict"]
        assert list(shapes) == list(expected[name]["state_dict"])
        assert count(network) == expected[name]["parameters"]
    assert len(groups["generator"].state_dict()) == 545
    assert count(groups["generator"]) == 39_204_625


VITS1 = {"flow": "plain", "speaker_in_text_encoder": False}
# The published counts of VITS and MB-iSTFT-VITS, less the 513 - 80 bins that their posterior encoders see more.
LINEAR = (513 - 80) * 192
HIFIGAN = {"preset": "vits2", "duration_predictor": "stochastic"}


@pytest.mark.parametrize(
    ("n_speakers", "arguments", "millions"),
    [
        (1, VITS1 | HIFIGAN, (36.32, 29.08)),
        (
            109,
            VITS1 | HIFIGAN | {"condition_decoder": True, "speaker_channels": 256},
            (39.70, 30.88),
        ),
        (1, VITS1, (34.72, 27.49)),
    ],
)
def test_published_sizes_of_vits(n_speakers, arguments, millions):
    generator = on_paper(n_speakers, **arguments).generator
    whole, posterior = count(generator), count(generator.enc_q)
    assert round((whole + LINEAR) / 1e6, 2) == millions[0]
    assert round((whole - posterior) / 1e6, 2) == millions[1]


@pytest.mark.parametrize(
    ("preset", "millions"),
    [
        ("mb_istft_vits2", 36.73),
        ("ms_istft_vits2", 36.73),
        ("istft_vits2", 36.68),
        ("vits2", 37.35),  # not published: VITS's decoder
        ("mini_mb_istft_vits2", 9.55),
        ("mini_istft_vits2", 9.53),
    ],
)
def test_presets_have_their_published_sizes(preset, millions):
    assert round(count(on_paper(n_tokens=205, preset=preset).generator) / 1e6, 2) == millions


def test_every_preset_is_tested_and_the_first_is_the_default():
    assert set(PRESETS) == set(get_args(PresetName))
    generators = [on_paper(n_tokens=205, **given).generator for given in ({}, {"preset": "mb_istft_vits2"})]
    assert len({str(generator) for generator in generators}) == 1


def test_the_mini_model_speaks_with_fewer_parameters():
    for arguments, millions in (({}, 7.74), (VITS1, 7.21)):
        generator = on_paper(n_tokens=205, preset="mini_mb_istft_vits2", **arguments).generator
        assert round((count(generator) - count(generator.enc_q)) / 1e6, 2) == millions


def test_what_is_given_stands_in_the_place_of_a_presets():
    generator = on_paper(preset="mini_mb_istft_vits2", n_layers=2, decoder="multi_stream_istft").generator
    assert len(generator.enc_p.encoder.attn_layers) == 2
    assert type(generator.dec).__name__ == "MultiStreamDecoder"
    assert generator.dec.conv_pre.out_channels == 256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hop_length": 300}, "the decoder makes 256 samples of a frame, features.hop_length is 300"),
        ({"decoder": "istft"}, "the decoder makes 64 samples"),
        ({"upsample_kernel_sizes": (16,)}, "upsample_kernel_sizes must be of one length"),
        ({"resblock_dilations": ((1, 3),)}, "resblock_dilations must be of one length"),
        ({"upsample_kernel_sizes": (16, 15)}, "must be even where"),
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"n_heads": 3}, "divisible by n_heads"),
        ({"istft_n_fft": 6}, "istft_n_fft must be a multiple"),
        ({"resblock_kernel_sizes": (3, 7, 10)}, "resblock_kernel_sizes must be odd"),
    ],
)
def test_sizes_that_do_not_go_together_are_said_so(arguments, message):
    with pytest.raises(ConfigError, match=message):
        small_model(**arguments)


def test_only_the_constructor_of_a_single_voice_has_no_table():
    assert small_model(n_speakers=1).generator.emb_g is None
    assert small_model(n_speakers=2).generator.emb_g.weight.shape == (2, 8)
