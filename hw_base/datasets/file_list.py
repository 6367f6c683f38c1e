"""A corpus listed in a text file with bars, as many public training programs have them."""

from pathlib import Path

from hw_base.config.schema import PathText
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.durations import with_durations
from hw_base.errors import DataError
from hw_base.registry import DATASETS

_MAX_REPORTED = 10


@DATASETS.register()
class FileList(BaseDataset):
    """Each line is ``path|speaker|text``, or ``path|text`` where there is one speaker.

    An utterance's id is its path with ``_`` between folders, without extension.

    Args:
        path: of the list, UTF-8; empty lines are allowed.
        root: what the paths in it are relative to; the list's folder by default.

    Raises:
        DataError: the list cannot be read, holds no utterance, or has bad lines, each named by its number.
    """

    def __init__(self, path: PathText, root: PathText | None = None) -> None:
        listed = Path(path)
        folder = Path(root) if root is not None else listed.parent
        try:
            lines = listed.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"FileList: {listed} cannot be read: {error}") from error
        records: list[Record] = []
        problems: list[str] = []
        seen: dict[str, int] = {}
        for number, line in enumerate(lines, start=1):
            parts = [part.strip() for part in line.split("|")]
            if not any(parts):
                continue
            place = Path(parts[0])
            utterance_id = "_".join([*place.parts[:-1], place.stem])
            if len(parts) not in (2, 3) or not place.stem:
                problems.append(f"line {number}: expected path|speaker|text or path|text, found {line.strip()[:80]!r}")
            elif utterance_id in seen:
                problems.append(f"line {number}: {parts[0]!r} stands in line {seen[utterance_id]} already")
            else:
                seen[utterance_id] = number
                speaker = parts[1] if len(parts) == 3 else ""
                records.append(Record(utterance_id, str(folder / parts[0]), 0.0, parts[-1], speaker))
        if problems:
            more = [f"{len(problems) - _MAX_REPORTED} more bad lines"] if len(problems) > _MAX_REPORTED else []
            raise DataError("\n".join(f"FileList: {listed}, {p}" for p in problems[:_MAX_REPORTED] + more))
        if not records:
            raise DataError(f"FileList: {listed} lists no utterances")
        super().__init__(with_durations(folder, records), name=f"FileList {listed.name}")
