"""Free Spoken Digit Dataset: 3000 recordings of ten digits by six speakers, 8 kHz."""

import re
from pathlib import Path
from typing import Literal

from hw_base.config.schema import PathText
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.durations import with_durations
from hw_base.errors import DataError
from hw_base.registry import DATASETS

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_FILE_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<index>\d+)\.wav")

# The recordings' indices. The corpus's README fixes 0 to 4 for testing and leaves the rest for training.
_INDICES = {
    "test": range(0, 5),
    "val": range(5, 10),
    "train": range(10, 10**6),
    "train_all": range(5, 10**6),
}


@DATASETS.register()
class FreeSpokenDigits(BaseDataset):
    """``<root>/recordings/<digit>_<speaker>_<index>.wav``; the transcript is the digit's English name.

    Args:
        root: the folder that holds ``recordings``.
        part: ``test`` is the official test split (index 0 to 4). The official training split is ``train_all``; ``val``
            is carved from it (index 5 to 9), and ``train`` is what is left (10 and above). So ``train``, ``val`` and
            ``test`` never share a recording.

    Raises:
        DataError: the folder is missing, or nothing in it has such a name.
    """

    def __init__(self, root: PathText, part: Literal["train", "val", "test", "train_all"]) -> None:
        folder = Path(root) / "recordings"
        if not folder.is_dir():
            raise DataError(
                f"FreeSpokenDigits: expected the folder {folder}, which does not exist; "
                "get it from https://github.com/Jakobovski/free-spoken-digit-dataset, or correct root"
            )
        records = [record for file in sorted(folder.iterdir()) if (record := _record(file, _INDICES[part]))]
        if not records:
            raise DataError(f"FreeSpokenDigits: {folder} has no recordings <digit>_<speaker>_<index>.wav for {part!r}")
        super().__init__(with_durations(folder, records), name=f"FreeSpokenDigits {part}")


def _record(file: Path, indices: range) -> Record | None:
    match = _FILE_NAME.fullmatch(file.name)
    if match is None or int(match["index"]) not in indices:
        return None
    return Record(file.stem, str(file), 0.0, WORDS[int(match["digit"])], speaker=match["speaker"])
