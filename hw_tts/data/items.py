"""A record and its audio -> what a synthesizer is trained on or compared with."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hw_base.data.cache import LazyItemMaker
from hw_base.data.dataset import Record
from hw_base.errors import DataError
from hw_base.registry import suggest
from hw_tts.alignment.intervals import durations_from_phones
from hw_tts.data.phones import phones_of
from hw_tts.features.cache import FeatureCache
from hw_tts.text.base import BLANK, BaseTextFrontEnd, intersperse


class TTSItemMaker(LazyItemMaker):
    """Makes items: tokens, spectrogram, pitch, energy, and durations where the record has an alignment.

    With an alignment the tokens are its symbols, otherwise those of the text. Audio is read only where the cache lacks
    its features.

    Args:
        cache: gives and keeps the features.
        front_end: text or symbols to tokens.
        speakers: ids by name; one speaker or none at all needs no name.
        with_waveform: the item has the audio too.
        aligned: durations are given where the record has them.
    """

    def __init__(
        self,
        cache: FeatureCache,
        front_end: BaseTextFrontEnd,
        speakers: Mapping[str, int],
        with_waveform: bool,
        aligned: bool,
    ) -> None:
        self.cache, self.front_end, self.speakers = cache, front_end, speakers
        self.with_waveform, self.aligned = with_waveform, aligned

    def __call__(self, record: Record, read: Callable[[], Tensor], generator: torch.Generator) -> dict[str, Any]:
        """One item.

        Args:
            record: its text or its alignment says what is spoken.
            read: gives the waveform (S,), at the rate of the features.
            generator: not used, nothing is random here.

        Returns:
            dict: ``tokens`` (L,) int64, ``spectrogram`` (F, T), ``pitch`` (T,) in Hz, ``energy`` (T,), ``durations``
            (L,) int64 frames and ``waveform`` (S,) where asked for, ``speaker_id``, ``text``, ``utterance_id``,
            ``audio_path``, ``speaker``.

        Raises:
            DataError: nothing to say, an unknown speaker, or an alignment that does not fit the audio.
        """
        facts = self.cache.get(record, read)
        item: dict[str, Any] = {key: facts[key] for key in ("spectrogram", "pitch", "energy")}
        item |= self._tokens(record, facts["spectrogram"].shape[-1])
        item |= {
            "speaker_id": speaker_id(record, self.speakers),
            "text": record.text,
            "utterance_id": record.utterance_id,
            "audio_path": record.audio_path,
            "speaker": record.speaker,
        }
        if self.with_waveform:
            item["waveform"] = read()
        return item

    def _tokens(self, record: Record, frames: int) -> dict[str, Tensor]:
        phones = phones_of(record, self.front_end)
        try:
            if phones is None:
                if not record.text or not record.text.strip():
                    raise DataError("there is no text to say")
                return {"tokens": torch.tensor(self.front_end.encode(record.text), dtype=torch.int64)}
            unknown = self.front_end.unknown_symbols([symbol for symbol, _, _ in phones])
            if unknown:
                raise DataError(
                    f"its alignment has symbols that were not in the training data: {sorted(set(unknown))[:10]}"
                )
            tokens = self.front_end.encode_symbols([symbol for symbol, _, _ in phones])
        except DataError as error:
            raise DataError(f"utterance {record.utterance_id!r}: {error}") from None
        item = {"tokens": torch.tensor(tokens, dtype=torch.int64)}
        if self.aligned:
            features = self.cache.features
            durations = durations_from_phones(
                phones, frames, features.sample_rate, features.hop_length, record.utterance_id
            )
            if self.front_end.add_blank:  # blanks take no time: the intervals have no gaps
                durations = torch.tensor(intersperse(durations.tolist(), BLANK), dtype=torch.int64)
            item["durations"] = durations
        return item


def speaker_id(record: Record, speakers: Mapping[str, int]) -> int:
    """The id of who speaks.

    Args:
        record: names the speaker.
        speakers: ids by name; one speaker or none at all needs no name.

    Raises:
        DataError: the training split has no such speaker.
    """
    if len(speakers) < 2:
        return 0
    if record.speaker not in speakers:
        hint = suggest(record.speaker, list(speakers))
        raise DataError(f"utterance {record.utterance_id!r}: no speaker {record.speaker!r} in training. {hint}")
    return speakers[record.speaker]
