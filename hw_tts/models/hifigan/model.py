"""HiFi-GAN, one model with two parameter groups."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from hw_base.config.schema import Count, Size
from hw_base.errors import ConfigError
from hw_base.nn.model import BaseModel
from hw_base.registry import MODELS
from hw_tts.models.hifigan.discriminators import Discriminators
from hw_tts.models.hifigan.generator import PRESETS, Generator, GeneratorSizes, PresetName, ResidualBlock

Counts = Annotated[list[Size], Field(min_length=1)]


def generator_sizes(arguments: Mapping[str, Any], hop_length: int) -> GeneratorSizes:
    """The preset with what the arguments of `HiFiGAN` change in it, checked.

    Raises:
        ConfigError: sizes that contradict each other.
    """
    names = [field.name for field in fields(GeneratorSizes)]
    changed = {name: arguments[name] for name in names if arguments.get(name) is not None}
    sizes = replace(PRESETS[arguments.get("preset", "V1")], **changed)
    sizes.check(hop_length)
    return sizes


@MODELS.register()
class HiFiGAN(BaseModel):
    """Generator and discriminators of Kong, Kim and Bae (2020), "HiFi-GAN".

    Args:
        n_mels: F, given at run time.
        hop_length: samples of a frame, given at run time.
        preset: V1 (13.9 M parameters, the best), V2 (0.9 M) or V3 (1.5 M, the fastest).
        upsample_rates: this and the following take the preset's value where they are not given;
            see `hw_tts.models.hifigan.generator.GeneratorSizes`.
        upsample_kernel_sizes: as above.
        channels: as above.
        resblock: as above.
        resblock_kernel_sizes: as above.
        resblock_dilations: as above.
        periods: of the multi-period discriminator.
        n_scales: of the multi-scale discriminator.
        discriminator_width: channels of the widest layers of all discriminators.

    Raises:
        ConfigError: sizes that contradict each other or the hop length, or no discriminator at all.
    """

    parameter_group_names = ("generator", "discriminator")

    def __init__(
        self,
        n_mels: int,
        hop_length: int,
        preset: PresetName = "V1",
        upsample_rates: Counts | None = None,
        upsample_kernel_sizes: Counts | None = None,
        channels: Size | None = None,
        resblock: ResidualBlock | None = None,
        resblock_kernel_sizes: Counts | None = None,
        resblock_dilations: Annotated[list[Counts], Field(min_length=1)] | None = None,
        periods: list[Size] | None = None,
        n_scales: Count = 3,
        discriminator_width: Size = 1024,
    ) -> None:
        super().__init__()
        changed = {
            "preset": preset,
            "upsample_rates": upsample_rates,
            "upsample_kernel_sizes": upsample_kernel_sizes,
            "channels": channels,
            "resblock": resblock,
            "resblock_kernel_sizes": resblock_kernel_sizes,
            "resblock_dilations": resblock_dilations,
        }
        periods = [2, 3, 5, 7, 11] if periods is None else periods
        if not periods and not n_scales:
            raise ConfigError("periods is empty and n_scales is 0, so there is no discriminator")
        self.generator = Generator(n_mels, generator_sizes(changed, hop_length))
        self.discriminator = Discriminators(periods, n_scales, discriminator_width)

    def forward(self, spectrogram: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Voice a batch.

        Args:
            spectrogram (Tensor): (B, F, T), natural logarithm.
            batch: not used.

        Returns:
            dict: ``waveform_predicted`` (B, T * hop_length).
        """
        return {"waveform_predicted": self.generator(spectrogram).squeeze(1)}

    def parameter_groups(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator}
