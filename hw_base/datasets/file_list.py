"""A corpus listed in a text file with bars, as many public training programs have them."""

from pathlib import Path

from hw_base.config.schema import PathText
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.durations import with_durations
from hw_base.datasets.names import bad_lines, ids_from_paths
from hw_base.datasets.parts import Part, Share, SplitBy, choose_part
from hw_base.errors import DataError
from hw_base.registry import DATASETS
from hw_base.texts.files import read_lines


@DATASETS.register()
class FileList(BaseDataset):
    """Each line is ``path|speaker|text``, or ``path|text`` where there is one speaker.

    An utterance's id is its path, from the root if it lies below it, with ``_`` between folders, without extension.

    Args:
        path: of the list, UTF-8; empty lines are allowed.
        root: what the paths in it are relative to; the list's folder by default.
        part: a fixed part of the list, see `hw_base.datasets.parts.choose_part`; ``all`` is everything.
        split_by: ``speaker`` gives each speaker to one part, ``utterance`` divides the files of all of them.
        share: of the speakers or files in ``val``, and as many in ``test``.

    Raises:
        DataError: the list cannot be read, holds no utterance, has bad lines, each named by its number, or cannot be
            divided.
    """

    def __init__(
        self,
        path: PathText,
        root: PathText | None = None,
        part: Part = "all",
        split_by: SplitBy = "utterance",
        share: Share = 0.1,
    ) -> None:
        listed = Path(path)
        folder = Path(root) if root is not None else listed.parent
        rows: list[tuple[int, list[str]]] = []
        problems: list[tuple[int, str]] = []
        for number, line in enumerate(read_lines(listed), start=1):
            fields = [field.strip() for field in line.split("|")]
            if not any(fields):
                continue
            if len(fields) not in (2, 3) or Path(fields[0]).name in ("", ".."):
                problems.append((number, f"expected path|speaker|text or path|text, found {line.strip()[:80]!r}"))
            else:
                rows.append((number, fields))
        ids = ids_from_paths([fields[0] for _, fields in rows], folder)
        seen: dict[str, int] = {}
        records: list[Record] = []
        for utterance_id, (number, fields) in zip(ids, rows, strict=True):
            first = seen.setdefault(utterance_id, number)
            if first != number:
                problems.append((number, f"{fields[0]!r} stands in line {first} already"))
            speaker = fields[1] if len(fields) == 3 else ""
            records.append(Record(utterance_id, str(folder / fields[0]), 0.0, fields[-1], speaker))
        if problems:
            raise DataError(bad_lines(f"FileList: {listed}", problems))
        if not records:
            raise DataError(f"FileList: {listed} lists no utterances")
        records = choose_part(records, part, split_by, share, f"FileList {listed}", folder)
        super().__init__(with_durations(folder, records), name=f"FileList {listed.name}")
