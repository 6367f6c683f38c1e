"""Train, validation and test of recordings that come without a split of their own."""

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from hw_base.data.dataset import Record
from hw_base.errors import DataError

Part = Literal["all", "train", "val", "test"]
SplitBy = Literal["speaker", "utterance"]
Share = Annotated[float, Field(gt=0, lt=0.5)]

_DIGITS = 13  # hexadecimal, which a float holds exactly


def choose_part(
    records: Sequence[Record], part: Part, split_by: SplitBy, share: float, source: str, root: str | os.PathLike[str]
) -> list[Record]:
    """The records of one part; each belongs to exactly one of ``train``, ``val`` and ``test``.

    A digest of the speaker's name, or of the file's path from the root, says which: so a recording keeps its part when
    others are added. The segments of one file stay together. Validation and test have at least one speaker or file.

    Args:
        records: all of the source's.
        part: ``all`` is everything.
        split_by: ``speaker`` keeps every speaker in one part.
        share: of the speakers or files, about as many as this are ``val``, and as many ``test``.
        source: names it in messages.
        root: what paths are taken relative to, so that a moved corpus is split alike.

    Raises:
        DataError: there are fewer than three speakers or files to divide, or a speaker is not known.
    """
    if part == "all":
        return list(records)
    key = _speaker if split_by == "speaker" else _file_below(root)
    keys = [key(record) for record in records]
    if split_by == "speaker" and "" in keys:
        name = records[keys.index("")].utterance_id
        raise DataError(f"{source}: split_by = speaker: utterance {name!r} has no speaker; set split_by to utterance")
    parts = _parts(sorted(set(keys)), share)
    if not parts:
        one = "speaker" if split_by == "speaker" else "file"
        other = "; set split_by to utterance" if split_by == "speaker" and len(records) > 2 else ""
        raise DataError(f"{source}: {len(set(keys))} {one}(s) cannot be divided into train, val and test{other}")
    return [record for record, name in zip(records, keys, strict=True) if parts[name] == part]


def _parts(keys: list[str], share: float) -> dict[str, str]:
    """The part of each key; empty where there are too few."""
    if len(keys) < 3:
        return {}
    places = {key: _place(key) for key in keys}
    ordered = sorted(keys, key=lambda key: (places[key], key))
    test = max(1, sum(place < share for place in places.values()))
    val = max(1, sum(place < 2 * share for place in places.values()) - test)
    if test + val >= len(keys):  # of a few, by chance, none would be left to train with
        test = val = 1
    return {key: "test" if i < test else "val" if i < test + val else "train" for i, key in enumerate(ordered)}


def _place(key: str) -> float:
    """In [0, 1), evenly distributed."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape")).hexdigest()
    return int(digest[:_DIGITS], 16) / float(16**_DIGITS)


def _speaker(record: Record) -> str:
    return record.speaker


def _file_below(root: str | os.PathLike[str]) -> Callable[[Record], str]:
    start = os.path.abspath(root)
    return lambda record: os.path.splitext(os.path.relpath(os.path.abspath(record.audio_path), start))[0]
