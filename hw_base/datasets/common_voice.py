"""Common Voice (Ardila et al. 2020): anybody's voices, listed in tab-separated files."""

from pathlib import Path
from typing import Literal

from hw_base.config.schema import PathText
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.durations import with_durations
from hw_base.errors import DataError
from hw_base.registry import DATASETS
from hw_base.texts.files import read_lines

Part = Literal["train", "dev", "test", "validated", "invalidated", "other"]


@DATASETS.register()
class CommonVoice(BaseDataset):
    """``<root>/<part>.tsv`` with the columns ``path``, ``sentence`` and ``client_id``, and ``<root>/clips/<path>``.

    Args:
        root: the folder of one language, such as ``cv-corpus-17.0/en``.
        part: name of the list. ``train``, ``dev`` and ``test`` share no speaker; ``validated`` contains them.

    Raises:
        DataError: the list is missing or malformed, or is empty.
    """

    def __init__(self, root: PathText, part: Part) -> None:
        folder = Path(root)
        rows = _rows(folder / f"{part}.tsv")
        records = [_record(folder / "clips", row) for row in rows]
        super().__init__(with_durations(folder / "clips", records), name=f"CommonVoice {part}")


def _record(clips: Path, row: dict[str, str]) -> Record:
    file = clips / row["path"]
    if not file.suffix:  # the first releases left it out
        file = file.with_suffix(".mp3")
    return Record(file.stem, str(file), 0.0, row["sentence"], speaker=row.get("client_id", ""))


def _rows(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        raise DataError(
            f"CommonVoice: expected the file {file}, which does not exist; "
            "get the corpus from https://commonvoice.mozilla.org, or correct root"
        )
    lines = read_lines(file) or [""]
    columns = lines[0].split("\t")
    missing = {"path", "sentence"} - set(columns)
    if missing:
        raise DataError(f"CommonVoice: {file} has no column {sorted(missing)}; it has {columns[:10]}")
    rows: list[dict[str, str]] = []
    seen: set[str] = set()
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        values = line.split("\t")  # quotation marks are text here: not the csv module's business
        if len(values) != len(columns):
            raise DataError(f"CommonVoice: {file}, line {number}: {len(values)} values for {len(columns)} columns")
        row = dict(zip(columns, values, strict=True))
        if not row["path"] or row["path"] in seen or Path(row["path"]).name != row["path"]:
            raise DataError(f"CommonVoice: {file}, line {number}: {row['path']!r} is not the name of a new clip")
        seen.add(row["path"])
        rows.append(row)
    if not rows:
        raise DataError(f"CommonVoice: {file} lists no clips")
    return rows
