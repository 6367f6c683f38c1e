"""Waveforms of log-mel spectrograms: what is there, and how it is loaded."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_base import checkpoint, trained
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.errors import CheckpointError, ConfigError
from hw_base.files import published, sources
from hw_base.texts.files import from_json
from hw_tts.models.blocks.weight_norm import fold_weight_norm
from hw_tts.models.hifigan.generator import Generator, GeneratorSizes
from hw_tts.models.hifigan.model import HiFiGAN
from hw_tts.public.hifigan import constants_of, from_public_generator, sizes_of
from hw_tts.vocoders.base import BaseVocoder
from hw_tts.vocoders.griffin_lim import GriffinLim
from hw_tts.vocoders.hifigan import HiFiGANVocoder

__all__ = [
    "BaseVocoder",
    "GriffinLim",
    "HiFiGANVocoder",
    "check_constants",
    "load_vocoder",
    "open_vocoder",
    "read_public",
]

# Where a frame lies on the waveform is a shift of half a hop, which every vocoder takes over unheard.
_UNHEARD = frozenset({"padding"})


def load_vocoder(
    path: str | Path | None, features: LogMelSpectrogram, device: str | torch.device = "cpu"
) -> BaseVocoder:
    """The vocoder for spectrograms of these features.

    Args:
        path: a checkpoint of this project that holds a HiFiGAN, or a public file ``{"generator": weights}`` with its
            ``config.json`` beside it; None is `GriffinLim`.
        features: what makes the spectrograms.
        device: where it computes.

    Raises:
        CheckpointError: the file is missing, damaged, or holds something else.
        ConfigError: it was made for spectrograms with other constants.
    """
    if path is None:
        return GriffinLim(features).to(device)
    vocoder = open_vocoder(path)
    check_constants(vocoder.constants, features.constants(), path)
    return vocoder.to(device)


def open_vocoder(path: str | Path) -> HiFiGANVocoder:
    """The vocoder of a checkpoint, whatever spectrograms it was made for; see `load_vocoder`."""
    path = sources.local(path)
    if path.suffix != published.SUFFIX:
        state = checkpoint.load_untrusted(path)
        if isinstance(state, dict) and "generator" in state:
            return _public(path)
    opened = trained.load(path)
    if not isinstance(opened.model, HiFiGAN):
        raise CheckpointError(
            f"{path}: holds a {opened.config.model.type}, which is not a vocoder; a HiFiGAN is needed"
        )
    return HiFiGANVocoder(opened.model.generator, opened.task.features.constants())


def check_constants(vocoder: Mapping[str, Any], features: Mapping[str, Any], source: str | Path) -> None:
    """Refuse a vocoder that was trained on other spectrograms.

    Raises:
        ConfigError: both lists, of what differs.
    """
    own, given = _comparable(vocoder), _comparable(features)
    differing = [name for name in given if not _equal(own[name], given[name])]
    if differing:
        own, given = ({name: side[name] for name in differing} for side in (own, given))
        raise ConfigError(
            f"{source}: made for other mel spectrograms. The vocoder's: {_listed(own)}. "
            f"The features': {_listed(given)}. Use a vocoder that was trained on these features"
        )


def _comparable(constants: Mapping[str, Any]) -> dict[str, Any]:
    """Those that change the sound, with the upper edge in Hz."""
    heard = {name: value for name, value in constants.items() if name not in _UNHEARD}
    return heard | {"f_max": constants["f_max"] or constants["sample_rate"] / 2}


def _equal(a: Any, b: Any) -> bool:
    numbers = all(isinstance(value, int | float) for value in (a, b))
    return math.isclose(a, b, rel_tol=1e-6) if numbers else bool(a == b)


def _listed(constants: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in constants.items())


def read_public(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any], GeneratorSizes]:
    """A public generator with its ``config.json`` beside it.

    Returns:
        Its weights under today's names, the constants of its spectrograms, its sizes.

    Raises:
        CheckpointError: a file is missing, damaged, or holds something else.
        ConfigError: sizes that contradict each other.
    """
    state = checkpoint.load_untrusted(path)
    described = Path(path).with_name("config.json")
    try:
        config = from_json(described.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: needs its config.json beside it: {error}") from None
    if not isinstance(state, dict) or not isinstance(config, dict):
        raise CheckpointError(f"{path}: not a public HiFi-GAN: the file or its config.json holds no mapping")
    constants, sizes = constants_of(config, str(described)), sizes_of(config, str(described))
    sizes.check(constants["hop_length"])
    return from_public_generator(state, str(path)), constants, sizes


def _public(path: str | Path) -> HiFiGANVocoder:
    weights, constants, sizes = read_public(path)
    generator = Generator(constants["n_mels"], sizes)
    if "conv_pre.weight" in weights:  # saved after its weight norm was removed
        fold_weight_norm(generator)
    checkpoint.load_weights(generator, weights, path)
    return HiFiGANVocoder(generator, constants)
