"""HiFi-GAN: generator, discriminators, and the public checkpoints' format."""

from hw_tts.models.hifigan.convert import (
    constants_of,
    convert_weights,
    from_public_discriminators,
    from_public_generator,
    sizes_of,
)
from hw_tts.models.hifigan.discriminators import Discriminators, MultiPeriodDiscriminator, MultiScaleDiscriminator
from hw_tts.models.hifigan.generator import PRESETS, Generator, GeneratorSizes, remove_weight_norm, voice
from hw_tts.models.hifigan.model import HiFiGAN, generator_sizes

__all__ = [
    "PRESETS",
    "Discriminators",
    "Generator",
    "GeneratorSizes",
    "HiFiGAN",
    "MultiPeriodDiscriminator",
    "MultiScaleDiscriminator",
    "constants_of",
    "convert_weights",
    "from_public_discriminators",
    "from_public_generator",
    "generator_sizes",
    "remove_weight_norm",
    "sizes_of",
    "voice",
]
