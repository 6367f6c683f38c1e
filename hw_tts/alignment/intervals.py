"""Alignments, ``[[symbol, start_s, end_s], ...]``, made of frames and frames made of them."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from hw_base.errors import DataError
from hw_base.texts.alignments import SILENCE, SLACK, check_phones


def durations_from_phones(
    phones: Sequence[Sequence[Any]],
    frames: int,
    sample_rate: int,
    hop_length: int,
    utterance_id: str,
    tolerance: int = 3,
) -> Tensor:
    """Frames of every symbol; they sum to the frames of the spectrogram.

    A time t lies at frame ``round(t * sample_rate / hop_length)``, the center of that frame being the nearest. The last
    symbol takes what is missing or gives what is too much.

    Args:
        phones: ``[symbol, start_s, end_s]`` in order, without gaps; zero length is allowed.
        frames: of the spectrogram.
        sample_rate: in Hz, of the audio that the spectrogram is made of.
        hop_length: of the spectrogram, in samples.
        utterance_id: for messages.
        tolerance: frames by which the end of the last symbol may miss the end of the spectrogram.

    Returns:
        durations (Tensor): int64, (L,).

    Raises:
        DataError: no symbols, malformed intervals, or another length than the spectrogram's.
    """
    check_phones(phones, utterance_id)
    edges = torch.tensor([round(end * sample_rate / hop_length) for _, _, end in phones])
    if abs(int(edges[-1]) - frames) > tolerance:
        raise DataError(
            f"utterance {utterance_id!r}: the alignment ends at {phones[-1][2]:.3f} s, frame {int(edges[-1])} of hop "
            f"{hop_length} at {sample_rate} Hz, but the spectrogram has {frames} frames (at most {tolerance} may "
            "differ); is it of this recording, and in seconds?"
        )
    edges = edges.clamp(max=frames).cummax(0).values  # neighbors may overlap by what files round
    edges[-1] = frames
    return edges.diff(prepend=edges.new_zeros(1))


def phones_from_durations(
    symbols: Sequence[str], durations: Iterable[int], sample_rate: int, hop_length: int
) -> list[list[Any]]:
    """The intervals of symbols that take so many frames each; `durations_from_phones` gives the durations back.

    Returns:
        phones: ``[[symbol, start_s, end_s], ...]``.
    """
    edges = [0]
    for duration in durations:
        edges.append(edges[-1] + int(duration))
    seconds = [edge * hop_length / sample_rate for edge in edges]
    return [list(row) for row in zip(symbols, seconds[:-1], seconds[1:], strict=True)]


def without_blanks(symbols: Sequence[str], durations: Sequence[int]) -> tuple[list[str], list[int]]:
    """Symbols and their frames where each blank, an empty name, gives its frames to the symbol before it.

    The first blank gives them to the first symbol.
    """
    named: list[str] = []
    frames: list[int] = []
    waiting = 0
    for symbol, duration in zip(symbols, durations, strict=True):
        if symbol:
            named.append(symbol)
            frames.append(duration + waiting)
            waiting = 0
        elif frames:
            frames[-1] += duration
        else:
            waiting += duration
    return named, frames


def fill_gaps(phones: Iterable[Sequence[Any]], duration: float, silence: str = SILENCE) -> list[list[Any]]:
    """Intervals that tile an utterance: stretches that no symbol covers become silence.

    Args:
        phones: ``[symbol, start_s, end_s]`` in order.
        duration: of the utterance, in seconds.
        silence: the symbol of what is filled in.
    """
    tiled: list[list[Any]] = []
    now = 0.0
    for symbol, start, end in phones:
        if start > now + SLACK:
            tiled.append([silence, now, start])
        tiled.append([symbol, now if abs(start - now) <= SLACK else start, end])
        now = end
    if duration > now + SLACK:
        tiled.append([silence, now, duration])
    elif tiled:
        tiled[-1][2] = max(duration, tiled[-1][1])
    return tiled
