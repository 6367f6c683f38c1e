"""Weights and configs of the public HiFi-GAN checkpoints, as this project names them."""

import re
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor

from hw_base.errors import CheckpointError
from hw_tts.features.acoustic import PUBLIC_SPECTROGRAM
from hw_tts.models.hifigan.generator import GeneratorSizes

_WEIGHT_NORM = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
_SPECTRAL_NORM = {
    "weight_orig": "parametrizations.weight.original",
    "weight_u": "parametrizations.weight.0._u",
    "weight_v": "parametrizations.weight.0._v",
}


def convert_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Old-style weight and spectral norms, ``weight_g``, ``weight_v``, ``weight_orig``, under today's names.

    Args:
        state: a state dict of any network; names without a norm stay as they are.
    """
    converted = {}
    for name, value in state.items():
        module, _, last = name.rpartition(".")
        names = _SPECTRAL_NORM if f"{module}.weight_orig" in state else _WEIGHT_NORM
        converted[f"{module}.{names[last]}" if last in names else name] = value
    return converted


def from_public_generator(state: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """The generator of a public file ``{"generator": ...}``, with its weight norm or already without it.

    Raises:
        CheckpointError: no such key, or something else than tensors under it.
    """
    weights = state.get("generator")
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError(f'{source}: expected {{"generator": weights}}, found the keys {sorted(map(str, state))}')
    # Files that were saved from several GPUs.
    return convert_weights({re.sub(r"^module\.", "", name): value for name, value in weights.items()})


def from_public_discriminators(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The discriminators of a public file ``{"mpd": ..., "msd": ...}``, as `Discriminators` names them."""
    weights = {f"{part}.{name}": value for part in ("mpd", "msd") for name, value in state[part].items()}
    return convert_weights(weights)


def sizes_of(config: Mapping[str, Any], source: str) -> GeneratorSizes:
    """The generator that a public ``config.json`` describes.

    Raises:
        CheckpointError: a key is missing.
    """
    try:
        return GeneratorSizes(
            tuple(config["upsample_rates"]),
            tuple(config["upsample_kernel_sizes"]),
            config["upsample_initial_channel"],
            cast(Any, str(config["resblock"])),
            tuple(config["resblock_kernel_sizes"]),
            tuple(tuple(dilations) for dilations in config["resblock_dilation_sizes"]),
        )
    except KeyError as error:
        raise CheckpointError(f"{source}: not the config of a HiFi-GAN: the key {error} is missing") from None


def constants_of(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The constants of the mel spectrograms that a public ``config.json`` describes.

    Raises:
        CheckpointError: a key is missing.
    """
    try:
        return {
            "sample_rate": config["sampling_rate"],
            "n_fft": config["n_fft"],
            "win_length": config["win_size"],
            "hop_length": config["hop_size"],
            "n_mels": config["num_mels"],
            "f_min": float(config["fmin"]),
            "f_max": None if config["fmax"] is None else float(config["fmax"]),
            **PUBLIC_SPECTROGRAM,
        }
    except KeyError as error:
        raise CheckpointError(f"{source}: not the config of a HiFi-GAN: the key {error} is missing") from None
