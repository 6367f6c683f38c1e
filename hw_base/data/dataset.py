"""An index of utterances (`BaseDataset`), and a split of one or several of them made into items (`Split`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from hw_base.audio import io as audio


@dataclass(frozen=True, slots=True)
class Record:
    """What the index knows of one utterance.

    Attributes:
        utterance_id: unique in its dataset; names the utterance in messages and predictions.
        audio_path: where the audio lies.
        duration: seconds, at the file's own rate: of the segment, or of the whole file.
        text: the transcript, or None where there is none.
        speaker: who speaks; empty where it is not known.
        extra: what only some datasets know, for example ``"phones": [[symbol, start_s, end_s], ...]``. The key
            ``"audio_error"`` says why the audio could not be read when the index was made, and ``"reading"`` how the
            dataset reads the file, where that is not simply all of it; a cache of what was read needs it.
        offset: seconds at which the utterance begins in its file, where it is a segment of ``duration`` seconds; None
            is the whole file.
    """

    utterance_id: str
    audio_path: str
    duration: float
    text: str | None = None
    speaker: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    offset: float | None = None


class BaseDataset:
    """An index over a corpus; a subclass's constructor makes the records.

    Attributes:
        records (list[Record]): in an order that depends on the corpus alone.
        name (str): for messages.
        shortens (bool): `read` may give less than the record's duration, which is the file's.
    """

    shortens = False

    def __init__(self, records: Sequence[Record], name: str | None = None) -> None:
        self.records = list(records)
        self.name = name or type(self).__name__

    def __len__(self) -> int:
        return len(self.records)

    def read(self, record: Record) -> tuple[Tensor, int]:
        """The audio of one record: of its segment, where it is one.

        Returns:
            waveform (Tensor): (S,), float32, mono, in [-1, 1].
            sample_rate (int): in Hz, the file's own.

        Raises:
            DataError: the file is missing or cannot be decoded.
        """
        if record.offset is None:
            return audio.load(record.audio_path)
        return audio.load(record.audio_path, segment=(record.offset, record.duration))
