"""HiFi-GAN: generator and discriminators."""

from hw_tts.models.hifigan.discriminators import Discriminators, MultiPeriodDiscriminator, MultiScaleDiscriminator
from hw_tts.models.hifigan.generator import PRESETS, Generator, GeneratorSizes, vocode
from hw_tts.models.hifigan.model import HiFiGAN, generator_sizes

__all__ = [
    "PRESETS",
    "Discriminators",
    "Generator",
    "GeneratorSizes",
    "HiFiGAN",
    "MultiPeriodDiscriminator",
    "MultiScaleDiscriminator",
    "generator_sizes",
    "vocode",
]
