"""The one format of alignments, ``[[symbol, start_s, end_s], ...]``, and frames made of it."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from hw_base.errors import DataError

SILENCE = "sil"
# Seconds by which neighbors may miss each other: files round their times, to milliseconds at the coarsest.
_SLACK = 2e-3


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
        if start > now + _SLACK:
            tiled.append([silence, now, start])
        tiled.append([symbol, now if abs(start - now) <= _SLACK else start, end])
        now = end
    if duration > now + _SLACK:
        tiled.append([silence, now, duration])
    elif tiled:
        tiled[-1][2] = max(duration, tiled[-1][1])
    return tiled


def check_phones(phones: Any, utterance_id: str) -> None:
    """Refuse what is not an alignment.

    Raises:
        DataError: not a list of ``[symbol, start_s, end_s]``, empty, not starting at 0, with gaps, overlaps or
            backwards; the message names the utterance and the interval.
    """
    where = f"utterance {utterance_id!r}: alignment"
    if not isinstance(phones, list | tuple) or not phones:
        found = "nothing" if phones in (None, [], ()) else f"{phones!r:.60}"
        raise DataError(f"{where}: expected [[symbol, start, end], ...], found {found}")
    before = 0.0
    for i, row in enumerate(phones):
        if not _is_interval(row):
            raise DataError(f"{where}: interval {i}: expected [symbol, start, end] in seconds, found {row!r:.80}")
        symbol, start, end = row
        if abs(start - before) > _SLACK:
            what = "starts at" if i else "the first one starts at"
            raise DataError(
                f"{where}: interval {i} ({symbol!r}) {what} {start:g} s instead of {before:g} s; intervals may leave "
                "no gaps and may not overlap"
            )
        if end < start:
            raise DataError(f"{where}: interval {i} ({symbol!r}) ends at {end:g} s, before its start at {start:g} s")
        before = end


def _is_interval(row: Any) -> bool:
    if not isinstance(row, list | tuple) or len(row) != 3 or not isinstance(row[0], str):
        return False
    return all(isinstance(t, int | float) and not isinstance(t, bool) and math.isfinite(t) for t in row[1:])
