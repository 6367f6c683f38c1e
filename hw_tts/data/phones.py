"""One format for all alignments that come with a corpus: ``[[symbol, start_s, end_s], ...]``."""

from collections.abc import Mapping
from typing import Any

from hw_base.data.dataset import Record
from hw_base.errors import DataError
from hw_tts.alignment.intervals import phones_from_durations
from hw_tts.text.base import BaseTextFrontEnd, shortened

Intervals = list[list[Any]]

# How far the end of an alignment may be from the end of the audio: the last frame, and what was cut off.
_TOLERANCE_SECONDS = 0.05
_TOLERANCE_FRACTION = 0.02


def phones_of(record: Record, front_end: BaseTextFrontEnd) -> Intervals | None:
    """The symbols of an utterance with their times, from whichever kind of alignment its record has.

    ``extra["phones"]`` is returned as it stands. ``extra["symbol_durations"]``, ``{"durations": [int, ...],
    "hop_length": int, "sample_rate": int}`` with durations in frames, belongs to the symbols that the front end finds
    in the record's text.

    Args:
        record: of an utterance.
        front_end: says what the symbols of a text are.

    Returns:
        ``[[symbol, start_s, end_s], ...]`` without gaps, some perhaps of no length; None without an alignment.

    Raises:
        DataError: there are more or fewer durations than symbols, or they add up to another length than the audio's.
    """
    if "phones" in record.extra:
        phones: Intervals = record.extra["phones"]
        return phones
    if "symbol_durations" in record.extra:
        return _from_durations(record, record.extra["symbol_durations"], front_end)
    return None


def _from_durations(record: Record, alignment: Mapping[str, Any], front_end: BaseTextFrontEnd) -> Intervals:
    durations = alignment["durations"]
    symbols = front_end.symbols(record.text or "")
    where = f"utterance {record.utterance_id!r}"
    if len(symbols) != len(durations):
        raise DataError(
            f"{where}: its alignment has {len(durations)} durations, but {type(front_end).__name__} finds "
            f"{len(symbols)} symbols in {shortened(record.text or '')!r}; the alignment was made for another "
            "text front end, or for another row of the metadata"
        )
    if any(duration < 0 for duration in durations):
        raise DataError(f"{where}: its alignment has negative durations")
    rate, hop = alignment["sample_rate"], alignment["hop_length"]
    frames, seconds = sum(durations), sum(durations) * hop / rate
    if abs(seconds - record.duration) > hop / rate + max(_TOLERANCE_SECONDS, _TOLERANCE_FRACTION * record.duration):
        raise DataError(
            f"{where}: its alignment covers {seconds:.2f} s ({frames} frames of {hop} samples at {rate} Hz), but the "
            f"audio has {record.duration:.2f} s; the alignment was made at another sampling rate or hop, or for "
            "another recording"
        )
    return phones_from_durations(symbols, durations, rate, hop)
