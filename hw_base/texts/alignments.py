"""The one format of alignments: ``[[symbol, start_s, end_s], ...]``, what is said when; SILENCE is a pause."""

import math
from pathlib import Path
from typing import Any

from hw_base.errors import DataError
from hw_base.texts.files import read_json

SILENCE = "sil"
# Seconds by which neighbors may miss each other: files round their times, to milliseconds at the coarsest.
SLACK = 2e-3


def read_alignment(path: Path, utterance_id: str) -> list[list[Any]]:
    """The alignment in a JSON file.

    Args:
        path: of the file.
        utterance_id: for messages.

    Returns:
        phones: ``[[symbol, start_s, end_s], ...]``, in order and without gaps.

    Raises:
        DataError: it cannot be read, or it is not an alignment; the message names the file.
    """
    phones: list[list[Any]] = read_json(path)
    try:
        check_phones(phones, utterance_id)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return phones


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
        if abs(start - before) > SLACK:
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
