"""Sizes of VITS2: the published ones by name, and which go together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from hw_base.errors import ConfigError
from hw_tts.models.vits2.decoder import DECODERS, DecoderKind, DecoderSizes

PresetName = Literal[
    "mb_istft_vits2", "ms_istft_vits2", "istft_vits2", "vits2", "mini_mb_istft_vits2", "mini_istft_vits2"
]


@dataclass(frozen=True)
class Preset:
    """In what the published models differ; the attributes are arguments of `VITS2`."""

    decoder: DecoderKind = "multi_band_istft"
    hidden_channels: int = 192
    n_layers: int = 6
    upsample_rates: Sequence[int] = (4, 4)
    upsample_kernel_sizes: Sequence[int] = (16, 16)
    upsample_initial_channels: int = 512


_MINI: dict[str, Any] = {"hidden_channels": 96, "n_layers": 3, "upsample_initial_channels": 256}
PRESETS: dict[PresetName, Preset] = {
    "mb_istft_vits2": Preset(),
    "ms_istft_vits2": Preset("multi_stream_istft"),
    "istft_vits2": Preset("istft", upsample_rates=(8, 8)),
    "vits2": Preset("hifigan", upsample_rates=(8, 8, 2, 2), upsample_kernel_sizes=(16, 16, 4, 4)),
    "mini_mb_istft_vits2": Preset(**_MINI),
    "mini_istft_vits2": Preset("istft", upsample_rates=(8, 8), **_MINI),
}


def preset_with(name: PresetName, **changed: Any) -> Preset:
    """A preset with what is given in its place; None leaves the preset's value."""
    return replace(PRESETS[name], **{key: value for key, value in changed.items() if value is not None})


def complete(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `VITS2` with the preset's values where none are given."""
    preset = asdict(PRESETS[arguments["preset"]])
    return {**arguments, **{key: value for key, value in preset.items() if arguments.get(key) is None}}


def check(sizes: DecoderSizes, decoder: DecoderKind, hop_length: int, hidden_channels: int, n_heads: int) -> None:
    """Look at sizes that only show together that they do not fit.

    Raises:
        ConfigError: the first contradiction.
    """
    made = DECODERS[decoder].samples_per_frame(sizes)
    if made != hop_length:
        raise ConfigError(
            f"model: the decoder makes {made} samples of a frame, features.hop_length is {hop_length}; "
            "change upsample_rates, istft_hop_length or subbands, or name a preset"
        )
    if len(sizes.upsample_rates) != len(sizes.upsample_kernel_sizes):
        raise ConfigError("model: upsample_rates and upsample_kernel_sizes must be of one length")
    if len(sizes.resblock_kernel_sizes) != len(sizes.resblock_dilations):
        raise ConfigError("model: resblock_kernel_sizes and resblock_dilations must be of one length")
    if any((kernel - rate) % 2 for kernel, rate in zip(sizes.upsample_kernel_sizes, sizes.upsample_rates, strict=True)):
        raise ConfigError(
            "model: each of upsample_kernel_sizes must be even where its upsample_rates is, odd where odd"
        )
    if any(kernel % 2 == 0 for kernel in sizes.resblock_kernel_sizes):
        raise ConfigError(f"model: resblock_kernel_sizes must be odd, found {list(sizes.resblock_kernel_sizes)}")
    if hidden_channels % n_heads or hidden_channels % 2 or sizes.in_channels % 2:
        raise ConfigError(
            f"model: hidden_channels ({hidden_channels}) must be divisible by n_heads and by 2, inter_channels by 2"
        )
    if sizes.n_fft % sizes.istft_hop_length or sizes.n_fft < 2 * sizes.istft_hop_length:
        raise ConfigError("model: istft_n_fft must be a multiple of istft_hop_length, at least twice as large")
