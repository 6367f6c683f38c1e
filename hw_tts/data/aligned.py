"""Any dataset together with a folder of alignments."""

import dataclasses
import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from torch import Tensor

from hw_base.config.resolve import build, nested_errors
from hw_base.config.schema import Component, Of, PathText
from hw_base.data.dataset import BaseDataset, Record
from hw_base.errors import DataError
from hw_base.registry import DATASETS
from hw_base.texts.alignments import SILENCE, read_alignment
from hw_tts.alignment.textgrid import phones_from_textgrid

log = logging.getLogger(__name__)

_MAX_NAMED = 5


def _known(component: Component) -> Component:
    errors = nested_errors(component, DATASETS)
    if errors:
        text = "; ".join(f"{where}: {message}" for where, message in errors.items())
        raise PydanticCustomError("dataset", "{text}", {"text": text})
    return component


@DATASETS.register()
class Aligned(BaseDataset):
    """Another dataset whose utterances get alignments from files.

    Those of an utterance lie in ``<alignments>/<utterance_id>`` or ``<alignments>/<speaker>/<utterance_id>``, as
    ``.TextGrid`` or as ``.json`` of ``[[symbol, start_s, end_s], ...]``; a TextGrid is taken where there are both.

    Args:
        dataset: the other dataset, ``{"type": name, "args": {...}}``.
        alignments: folder.
        tier: of TextGrids.
        silence: what pauses are called in TextGrids.
        on_missing: whether utterances without a file end the program, or are left out and counted.

    Raises:
        ConfigError: the dataset refuses its arguments.
        DataError: files are missing, cannot be read, or are not alignments.
    """

    def __init__(
        self,
        dataset: Annotated[Component, Of(DATASETS), AfterValidator(_known)],
        alignments: PathText,
        tier: str = "phones",
        silence: str = SILENCE,
        on_missing: Literal["fail", "skip"] = "fail",
    ) -> None:
        self._dataset: BaseDataset = build("dataset", dataset, DATASETS)
        folder = Path(alignments)
        if not folder.is_dir():
            raise DataError(f"Aligned: expected the folder {folder} with alignments, which does not exist")
        found, missing = [], []
        for record in self._dataset.records:
            path = _find(folder, record)
            if path is None:
                missing.append(record.utterance_id)
                continue
            if path.suffix == ".json":
                phones = read_alignment(path, record.utterance_id)
            else:
                phones = phones_from_textgrid(path, tier, silence)
            found.append(dataclasses.replace(record, extra={**record.extra, "phones": phones}))
        if missing:
            _report(missing, len(self._dataset), folder, on_missing)
        super().__init__(found, name=f"Aligned {self._dataset.name}")

    def read(self, record: Record) -> tuple[Tensor, int]:
        """As the other dataset reads it."""
        return self._dataset.read(record)


def _find(folder: Path, record: Record) -> Path | None:
    names = [f"{record.utterance_id}{suffix}" for suffix in (".TextGrid", ".json")]
    folders = [folder, folder / record.speaker] if record.speaker else [folder]
    return next((place / name for place in folders for name in names if (place / name).is_file()), None)


def _report(missing: list[str], total: int, folder: Path, on_missing: str) -> None:
    named = ", ".join(map(repr, missing[:_MAX_NAMED])) + (", ..." if len(missing) > _MAX_NAMED else "")
    message = f"{folder}: no alignment for {len(missing)} of {total} utterances ({named})"
    if on_missing == "fail":
        raise DataError(f"{message}; add <utterance_id>.TextGrid or .json, or set on_missing to skip")
    log.warning("%s; left out", message)
