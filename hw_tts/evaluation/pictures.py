"""Pictures of speech: which stretch of the spectrogram is which symbol, and how symbols and frames belong together."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hw_base.errors import MissingPackageError
from hw_base.writers.plots import Image, figure_of, one_line, rendered
from hw_tts.alignment.intervals import phones_from_durations
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.metrics.base import Pair
from hw_tts.text.base import BaseTextFrontEnd

# Inches of a picture for each second, and within which limits.
_INCHES_PER_SECOND, _NARROWEST, _WIDEST = 3.2, 6.0, 40.0
# Inches for each symbol of an alignment, and within which limits.
_INCHES_PER_SYMBOL, _LOWEST, _HIGHEST = 0.13, 2.6, 18.0
_COLORS = ("tab:blue", "tab:orange", "tab:green")


@dataclass(frozen=True)
class Panel:
    """One utterance of a picture.

    Attributes:
        title: shown above.
        spectrogram (Tensor): log-mel, (F, T).
        phones: ``[[symbol, start_s, end_s], ...]``; empty where the durations are not known.
        pitch (Tensor | None): F0 in Hz, (T,); 0 is not drawn.
    """

    title: str
    spectrogram: Tensor
    phones: Sequence[Sequence[Any]] = field(default_factory=tuple)
    pitch: Tensor | None = None


def panel(title: str, waveform: Tensor, features: TTSFeatures, phones: Sequence[Sequence[Any]] | None) -> Panel | None:
    """What is to be drawn of a waveform (S,), without pitch where its package is missing; None if it is too short."""
    if len(waveform) < features.min_samples:
        return None
    try:
        found = features.all_of(waveform)
    except MissingPackageError:
        return Panel(title, features(waveform), phones or ())
    return Panel(title, found["spectrogram"], phones or (), found["pitch"] * found["voiced"])


def named_durations(symbols: Sequence[str], durations: Tensor | None, features: TTSFeatures) -> list[list[Any]] | None:
    """Durations in frames (L,) as ``[[symbol, start_s, end_s], ...]``; None without durations."""
    if durations is None:
        return None
    return phones_from_durations(symbols, durations.tolist(), features.sample_rate, features.hop_length)


@dataclass(frozen=True)
class Spoken:
    """What was synthesized of an utterance, ready to be drawn.

    Attributes:
        pair: with its recording, and the durations of either side where they are known.
        symbols: one for each duration; empty names are blanks.
        weights (Tensor | None): of a learned alignment of the recording, (T, L), in [0, 1].
    """

    pair: Pair
    symbols: list[str]
    weights: Tensor | None = None


def spoken(batch: Mapping[str, Any], i: int, pair: Pair, front_end: BaseTextFrontEnd) -> Spoken:
    """One utterance of an evaluated batch; ``alignment_log_probs`` (B, T, L) are of models that learn alignments."""
    n_tokens, n_frames = int(batch["tokens_length"][i]), int(batch["spectrogram_length"][i])
    scores = batch.get("alignment_log_probs")
    weights = scores[i, :n_frames, :n_tokens].float().exp().cpu() if scores is not None else None
    return Spoken(pair, front_end.names(batch["tokens"][i, :n_tokens].tolist()), weights)


def pictures_of(one: Spoken, features: TTSFeatures) -> dict[str, Image]:
    """Everything that is drawn of what was synthesized beside its recording.

    Returns:
        dict: ``spectrogram`` and ``alignment``; without what cannot be drawn.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    pair, symbols, weights = one.pair, one.symbols, one.weights
    seconds = features.hop_length / features.sample_rate
    sides = (
        (f"synthesized: {pair.text}", pair.synthesized, pair.durations),
        ("recorded", pair.reference, pair.reference_durations),
    )
    panels = [
        panel(title, waveform, features, named_durations(symbols, durations, features))
        for title, waveform, durations in sides
    ]
    found = [side for side in panels if side is not None]
    pictures = {"spectrogram": speech_image(found, seconds)} if len(found) == len(sides) else {}
    if weights is None and pair.reference_durations is not None:
        weights = hard_weights(pair.reference_durations)
    if weights is not None and weights.numel():
        pictures["alignment"] = alignment_image(symbols, weights, seconds, pair.durations, pair.text)
    return pictures


def hard_weights(durations: Tensor) -> Tensor:
    """Durations in frames (L,) as an alignment of 0 and 1, (T, L)."""
    return torch.eye(len(durations)).repeat_interleave(durations, dim=0)


def speech_image(panels: Sequence[Panel], seconds_per_frame: float) -> Image:
    """Spectrograms below each other with boundaries and names of symbols, and below them the pitch of all.

    Args:
        panels: at least one; they share the time axis.
        seconds_per_frame: hop length over sample rate.

    Returns:
        uint8, (height, width, 3); the width follows the length of the longest.

    Raises:
        ValueError: there is no panel.
        MissingPackageError: matplotlib is not installed.
    """
    if not panels:
        raise ValueError("there is nothing to draw")
    edge = seconds_per_frame / 2  # a frame stands for the time around its center
    longest = max(one.spectrogram.shape[1] for one in panels) * seconds_per_frame
    pitched = [one for one in panels if one.pitch is not None and bool((one.pitch > 0).any())]
    heights = [2.9] * len(panels) + [1.3] * bool(pitched)
    figure = figure_of(min(_WIDEST, max(_NARROWEST, 1.0 + _INCHES_PER_SECOND * longest)), sum(heights) + 0.4)
    rows = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for one, axes in zip(panels, rows, strict=False):
        F, T = one.spectrogram.shape
        extent = (-edge, T * seconds_per_frame - edge, 0, F)
        values = one.spectrogram.detach().cpu().float().numpy()
        axes.imshow(values, origin="lower", aspect="auto", extent=extent, cmap="magma", interpolation="nearest")
        axes.set(ylabel="mel band", xlim=(-edge, longest - edge))
        title = one_line(one.title, int(12 * figure.get_figwidth()))
        phones = one.phones if longest <= _WIDEST / _INCHES_PER_SECOND else ()  # more would lie above each other
        axes.set_title(title, loc="left", fontsize=9, pad=32 if phones else 4)
        _name_symbols(axes, phones)
    if pitched:
        _draw_pitch(rows[-1], pitched, seconds_per_frame)
    rows[-1].set_xlabel("time, s")
    return rendered(figure)


def _draw_pitch(axes: Any, panels: Sequence[Panel], seconds_per_frame: float) -> None:
    for one, color in zip(panels, _COLORS, strict=False):
        assert one.pitch is not None
        times = torch.arange(len(one.pitch)) * seconds_per_frame
        heights = one.pitch.masked_fill(one.pitch <= 0, torch.nan)
        label = one_line(one.title.partition(":")[0], 30)
        axes.plot(times.numpy(), heights.numpy(), color=color, linewidth=1.5, label=label)
    axes.set(ylabel="F0, Hz")
    axes.grid(alpha=0.3)
    if len(panels) > 1:
        axes.legend(fontsize=7, loc="upper right")


def _name_symbols(axes: Any, phones: Sequence[Sequence[Any]]) -> None:
    """Boundaries in the picture, names above it in two heights, so that short neighbors can be read."""
    above = axes.get_xaxis_transform()
    heights = itertools.cycle((1.01, 1.09))
    bounds = [(start, 0.7 if symbol else 0.3) for symbol, start, _ in phones if start > 0]
    colors = [("white", alpha) for _, alpha in bounds]
    axes.vlines([start for start, _ in bounds], 0, 1, colors, linewidth=0.7, transform=above)
    for symbol, start, end in phones:
        if symbol:
            place = ((start + end) / 2, next(heights))
            # The title keeps their room free; measuring each of them again takes a third of the time.
            axes.text(*place, _shown(symbol), transform=above, ha="center", va="bottom", fontsize=8, in_layout=False)


def _shown(symbol: str) -> str:
    return symbol.replace(" ", "␣").replace("$", r"\$")


def alignment_image(
    symbols: Sequence[str],
    weights: Tensor,
    seconds_per_frame: float,
    durations: Tensor | None = None,
    title: str = "",
) -> Image:
    """Which frames of a recording belong to which symbol, and beside it the durations that the model would choose.

    Args:
        symbols: L names, the first at the bottom; empty ones are blanks.
        weights (Tensor): of symbols for each frame, in [0, 1], (T, L); of a hard alignment 0 and 1.
        seconds_per_frame: hop length over sample rate.
        durations (Tensor | None): frames of each symbol as the model speaks, (L,).
        title: shown above.

    Returns:
        uint8, (height, width, 3).

    Raises:
        ValueError: sizes that do not fit.
        MissingPackageError: matplotlib is not installed.
    """
    L = len(symbols)
    if weights.ndim != 2 or weights.shape[1] != L or not weights.numel():
        raise ValueError(f"{L} symbols, but weights {tuple(weights.shape)}")
    if durations is not None and len(durations) != L:
        raise ValueError(f"{L} symbols, but {len(durations)} durations")
    shown = max(weights.shape[0], int(durations.sum()) if durations is not None else 0) * seconds_per_frame
    width = min(_WIDEST, max(_NARROWEST, 1.0 + 2.2 * shown))
    figure = figure_of(width, min(_HIGHEST, max(_LOWEST, 1.2 + _INCHES_PER_SYMBOL * L)))
    axes = figure.add_subplot()
    extent = (0.0, weights.shape[0] * seconds_per_frame, -0.5, L - 0.5)
    values = weights.detach().cpu().float().clamp(0, 1).T.numpy()
    axes.imshow(
        values, origin="lower", aspect="auto", extent=extent, cmap="Blues", interpolation="nearest", clim=(0, 1)
    )
    if durations is not None:
        edges = torch.cat([durations.new_zeros(1), durations.cumsum(0)]).double() * seconds_per_frame
        axes.stairs(torch.arange(L).numpy(), edges.numpy(), baseline=None, color="tab:orange", label="as spoken")
        axes.plot([], [], color="#08306b", linewidth=4, label="recording")
        axes.legend(fontsize=7, loc="lower right")
    places = [i for i, symbol in enumerate(symbols) if symbol]
    axes.set_yticks(places, [_shown(symbols[i]) for i in places], fontsize=7)
    axes.set(xlabel="time, s", ylabel="symbol", xlim=(0.0, shown))
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.set_title(one_line(title, int(12 * width)), loc="left", fontsize=9)
    return rendered(figure)
