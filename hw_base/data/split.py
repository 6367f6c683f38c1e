"""A split: the records of one or several datasets, filtered, reported, and made into items."""

import functools
import hashlib
import itertools
import logging
import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.utils.data
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from hw_base.audio import io as audio
from hw_base.data import cache
from hw_base.data.cache import LazyItemMaker
from hw_base.data.dataset import BaseDataset, Record
from hw_base.errors import DataError

log = logging.getLogger(__name__)


# So many bad utterances in a row are not an accident: the data folder is gone, or everything in it is damaged.
MAX_BAD_IN_A_ROW = 100


# Of unreadable files so many are named one by one.
_MAX_NAMED = 20


_UNREADABLE = "unreadable"


Item = dict[str, Any]


MakeItem = Callable[["Record", Any, torch.Generator], Item]


@dataclass(frozen=True)
class Limits:
    """Which records a split keeps; None sets no limit.

    Attributes:
        min_seconds: shorter audio is dropped.
        max_seconds: longer audio is dropped.
        max_text_length: longer transcripts (in characters) are dropped.
        limit: keep this many utterances, picked at random, always the same ones.
    """

    min_seconds: NonNegativeFloat = 0.1
    max_seconds: PositiveFloat | None = None
    max_text_length: PositiveInt | None = None
    limit: PositiveInt | None = None


class Split(torch.utils.data.Dataset[Item]):
    """The utterances of one split, read, checked and turned into items.

    What is random in an item comes from a generator seeded by (seed, epoch, index) alone, so that neither the number
    of workers nor a resumed run changes anything.

    A bad utterance (missing or undecodable file, NaN, truncated, and in training also silence) raises a `DataError`
    under ``on_bad_data="fail"``. Under ``"skip"`` a training split takes the next good utterance of the index in its
    place, so that batches keep their size, and an evaluation split returns an item with the one key ``"skipped"``,
    which loaders take out. Both ways ``item["skipped"]`` lists ``(utterance_id, reason)``, and `note_skipped` counts.

    Args:
        name: of the split, for messages: ``train``, ``val``.
        datasets: whose records are joined, in this order.
        make_item: ``(record, waveform (S,), generator) -> item``; a `DataError` it raises makes the utterance bad.
            A `LazyItemMaker` is given a function that reads the waveform, for what may be cached.
        sample_rate: in Hz, what every waveform is resampled to.
        limits: which records are kept.
        seed: of everything random in the items.
        on_bad_data: what happens to an utterance that cannot be used.
        evaluation: nothing may be substituted, and every utterance id must be unique.
        needs_text: records without a transcript are dropped.

    Attributes:
        datasets (list[BaseDataset]): whose records were joined.
        records (list[Record]): what is left after the limits.
        durations (list[float]): seconds, of each record.
        report (list[str]): what was kept and what was dropped, for people.
        skipped (dict[str, str]): utterance id -> reason, of what was found bad while reading.
        cache (Cache | None): keeps what was read, see `keep`.

    Raises:
        DataError: nothing is left, an id stands twice in an evaluation split, or the index names an unreadable file
            under ``on_bad_data="fail"``.
    """

    def __init__(
        self,
        name: str,
        datasets: Sequence[BaseDataset],
        make_item: MakeItem,
        sample_rate: int,
        limits: Limits | None = None,
        seed: int = 0,
        on_bad_data: Literal["fail", "skip"] = "fail",
        evaluation: bool = False,
        needs_text: bool = False,
    ) -> None:
        self.name = name
        self.make_item = make_item
        self.sample_rate = sample_rate
        self.limits = limits or Limits()
        self.seed = seed
        self.on_bad_data = on_bad_data
        self.evaluation = evaluation
        self.needs_text = needs_text
        self.skipped: dict[str, str] = {}
        self.cache: cache.Cache | None = None
        self.datasets = list(datasets)
        everything = [(record, i) for i, dataset in enumerate(self.datasets) for record in dataset.records]
        kept, drops = self._filter(everything)
        self.records = [record for record, _ in kept]
        self._sources = [source for _, source in kept]
        self.durations = [record.duration for record in self.records]
        self.report = self._describe(drops)
        if not self.records:
            raise DataError(f"{self.report[0]}: nothing is left" if everything else f"{name}: there are no utterances")
        if evaluation:
            self._refuse_repeated_ids()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        """One item.

        Args:
            key: an index, meaning epoch 0, or ``(epoch, index)``.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: no index {index} among {len(self)} utterances")
        skipped: list[tuple[str, str]] = []
        for shift in range(min(len(self), MAX_BAD_IN_A_ROW)):
            position = (index + shift) % len(self)
            record, generator = self.records[position], item_generator(self.seed, epoch, index)
            try:
                item = self.make_item(record, self._audio(position), generator)
            except DataError as error:
                reason = self._named(record, error)
                if self.on_bad_data == "fail":
                    raise DataError(self._with_way_out(reason)) from error
                skipped.append((record.utterance_id, reason))
                if self.evaluation:
                    return {"skipped": skipped}
            else:
                item["skipped"] = skipped
                return item
        raise DataError(f"{self.name}: {len(skipped)} utterances in a row cannot be used; the first: {skipped[0][1]}")

    def examples(self, count: int) -> list[str]:
        """Ids of utterances to show: one of each voice, then a second of each; always the same ones."""
        voices: dict[str, list[str]] = {}
        for record in self.records:
            voices.setdefault(record.speaker, []).append(record.utterance_id)
        turns = itertools.zip_longest(*voices.values())
        return [name for turn in turns for name in turn if name is not None][:count]

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """Drop utterances that cannot be used, by id, or end with one error under ``on_bad_data="fail"``.

        Raises:
            DataError: there are such utterances and they may not be skipped, or nothing is left.
        """
        if not reasons:
            return
        assert self.cache is None  # which knows utterances by their places
        names = ", ".join(repr(name) for name in list(reasons)[:20]) + (", ..." if len(reasons) > 20 else "")
        message = f"{self.name}: {len(reasons)} of {len(self)} utterances, {names}: {next(iter(reasons.values()))}"
        if self.on_bad_data == "fail":
            raise DataError(self._with_way_out(message))
        kept = [i for i, record in enumerate(self.records) if record.utterance_id not in reasons]
        if not kept:
            raise DataError(f"{message}; nothing is left")
        before, self.records = self.records, [self.records[i] for i in kept]
        self._sources = [self._sources[i] for i in kept]
        self.durations = [self.durations[i] for i in kept]
        self.skipped.update(reasons)
        log.warning("%s", "; ".join([message, "left out", *_silenced(before, self.records)]))

    def waveform(self, index: int) -> Tensor:
        """Audio of one utterance at the split's rate, checked: (S,), float32.

        Raises:
            DataError: it cannot be used; the message names the utterance.
        """
        if self.cache is not None:
            return cache.waveform_kept(self.cache, index, lambda: self._read(index))
        return self._read(index)

    def keep(self, mode: cache.Mode, room: cache.Room) -> None:
        """From now on keep what is read, for the next epoch; no utterance can be left out after this.

        Args:
            mode: where.
            room: how much.
        """
        samples = torch.tensor([round(seconds * self.sample_rate) for seconds in self.durations])
        widths = torch.tensor([self._bytes_a_sample(i) for i in range(len(self.datasets))])
        sizes = (samples * widths[torch.tensor(self._sources)]).unsqueeze(0)
        key, maker = "", self.make_item if isinstance(self.make_item, LazyItemMaker) else None
        if maker is not None:
            sizes = torch.cat([sizes, maker.sizes_kept(samples)])
        if mode == "disk":
            depends_on = maker.kept_depends_on() if maker is not None else None
            checks = [self.evaluation, self.limits.min_seconds]  # what was kept is not checked again
            key = cache.key_of(self.records, [self.sample_rate, checks, depends_on])
        self.cache = cache.Cache(self.name, sizes, mode, room, key)
        log.info("%s", cache.describe(self.cache, len(self), mode))

    def _bytes_a_sample(self, source: int) -> int:
        """2 if the audio of a dataset comes in 16 bits and at the split's rate, else 4: by its first utterance."""
        try:
            waveform = self._read(self._sources.index(source))
        except (DataError, ValueError):  # the loader's to report; or nothing is left of the dataset
            return 2
        return cache.as_int16(waveform).element_size()

    def _read(self, index: int) -> Tensor:
        record, dataset = self.records[index], self.datasets[self._sources[index]]
        try:
            waveform, rate = dataset.read(record)
        except DataError as error:
            raise DataError(self._named(record, error)) from error
        fault = self._fault(record, waveform, waveform.shape[-1] / rate, dataset.shortens)
        if fault:
            raise DataError(f"{self.name}: utterance {record.utterance_id!r} ({record.audio_path}): {fault}")
        return audio.resample(waveform, rate, self.sample_rate)

    def _audio(self, index: int) -> Tensor | cache.Reading:
        """The waveform, or, for a `LazyItemMaker`, what reads it."""
        if isinstance(self.make_item, LazyItemMaker):
            return cache.Reading(functools.partial(self.waveform, index), self.cache, index)
        return self.waveform(index)

    def note_skipped(self, skipped: Sequence[tuple[str, str]]) -> None:
        """Count what items reported as skipped, in the main process; each utterance is logged once."""
        for utterance_id, reason in skipped:
            if utterance_id not in self.skipped:
                self.skipped[utterance_id] = reason
                log.warning("skipped: %s", reason)

    def _named(self, record: Record, error: DataError) -> str:
        """What is wrong with an utterance, with its name."""
        reason = str(error)
        if f"utterance {record.utterance_id!r}" not in reason:
            reason = f"utterance {record.utterance_id!r}: {reason}"
        return reason if reason.startswith(f"{self.name}: ") else f"{self.name}: {reason}"

    def _with_way_out(self, reason: str) -> str:
        return f"{reason}; mend or remove it, or set data.{self.name}.on_bad_data to skip"

    def _fault(self, record: Record, waveform: Tensor, seconds: float, shortens: bool) -> str | None:
        if waveform.numel() == 0:
            return "the file holds no samples" if not record.offset else "its segment lies behind the file's end"
        if reason := audio.sample_fault(waveform):
            return reason
        if not shortens and record.duration - seconds > max(0.1, 0.1 * record.duration):
            return f"truncated: {seconds:.2f} s of audio where the index says {record.duration:.2f} s"
        if seconds < self.limits.min_seconds:
            return f"{seconds:.3f} s of audio is less than min_seconds = {self.limits.min_seconds:g}"
        if not self.evaluation and not any(torch.aminmax(waveform)):
            return "nothing but silence: every sample is zero"
        return None

    def _filter(self, pairs: list[tuple[Record, int]]) -> tuple[list[tuple[Record, int]], list[str]]:
        """The records within the limits, and one phrase for each reason that dropped some."""
        drops: dict[str, list[Record]] = {}
        kept: list[tuple[Record, int]] = []
        for pair in pairs:
            reason = self._reason_to_drop(pair[0])
            if reason is None:
                kept.append(pair)
            else:
                drops.setdefault(reason, []).append(pair[0])
        phrases = [_phrase(reason, records) for reason, records in drops.items()]
        phrases += _silenced([record for record, _ in pairs], [record for record, _ in kept])
        for record in drops.get(_UNREADABLE, [])[:_MAX_NAMED]:
            log.warning("%s: dropped utterance %r: %s", self.name, record.utterance_id, record.extra["audio_error"])
        limit = self.limits.limit
        if limit is not None and len(kept) > limit:
            # Not the run's seed: the same validation utterances whatever the seed. Not the first ones: one speaker.
            order = list(range(len(kept)))
            random.Random(0).shuffle(order)
            phrases.append(f"left out {len(kept) - limit} beyond limit = {limit}")
            kept = [kept[i] for i in sorted(order[:limit])]
        return kept, phrases

    def _reason_to_drop(self, record: Record) -> str | None:
        limits, text = self.limits, record.text
        if "audio_error" in record.extra:
            if self.on_bad_data == "fail":
                raise DataError(self._with_way_out(self._named(record, DataError(record.extra["audio_error"]))))
            return _UNREADABLE
        if not 0 < record.duration < math.inf:
            if self.on_bad_data == "fail":
                fault = DataError(f"{record.audio_path}: its duration is {record.duration:g} s")
                raise DataError(self._with_way_out(self._named(record, fault)))
            return "of no duration"
        if record.duration < limits.min_seconds:
            return f"shorter than {limits.min_seconds:g} s"
        if limits.max_seconds is not None and record.duration > limits.max_seconds:
            return f"longer than {limits.max_seconds:g} s"
        if self.needs_text and not (text and text.strip()):
            return "without text"
        if limits.max_text_length is not None and text is not None and len(text) > limits.max_text_length:
            return f"with more than {limits.max_text_length} characters of text"
        return None

    def _describe(self, drops: list[str]) -> list[str]:
        lines = ["; ".join([f"{self.name}: {len(self)} utterances, {_time(sum(self.durations))}", *drops])]
        if len(self.datasets) > 1:
            for i, dataset in enumerate(self.datasets):
                durations = [seconds for seconds, s in zip(self.durations, self._sources, strict=True) if s == i]
                lines.append(f"  {dataset.name}: {len(durations)} utterances, {_time(sum(durations))}")
        return lines

    def _refuse_repeated_ids(self) -> None:
        seen: dict[str, Record] = {}
        for record in self.records:
            other = seen.setdefault(record.utterance_id, record)
            if other is not record:
                raise DataError(
                    f"{self.name}: the utterance id {record.utterance_id!r} stands for both "
                    f"{other.audio_path} and {record.audio_path}; ids must be unique in an evaluation split"
                )


def report_shared(evaluation: Split, training: Split) -> None:
    """Say so where an evaluation split holds utterances that are trained on: its figures are not of new recordings."""

    def place(record: Record) -> tuple[str, float]:
        return os.path.realpath(record.audio_path), record.offset or 0.0

    trained = {place(record) for record in training.records}
    shared = [record.utterance_id for record in evaluation.records if place(record) in trained]
    if shared:
        count = f"{len(shared)} of {len(evaluation)} utterances are trained on too (first: {shared[0]})"
        log.warning("%s: %s; its figures say nothing about new recordings", evaluation.name, count)


def item_generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """A generator that depends on these three numbers and on nothing else."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{index}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def _phrase(reason: str, records: list[Record]) -> str:
    if reason.startswith("longer"):
        which = f"longest: {max(records, key=lambda record: record.duration).utterance_id}"
    elif reason.startswith("shorter"):
        which = f"shortest: {min(records, key=lambda record: record.duration).utterance_id}"
    else:
        which = f"first: {records[0].utterance_id}"
    return f"dropped {len(records)} {reason} ({which})"


def _silenced(before: list[Record], after: list[Record]) -> list[str]:
    """A phrase that names the speakers who have no utterance left, if there are any."""
    heard = {record.speaker for record in after} | {""}
    lost = dict.fromkeys(record.speaker for record in before if record.speaker not in heard)
    if not after or not lost:
        return []
    names = ", ".join(list(lost)[:_MAX_NAMED]) + (", ..." if len(lost) > _MAX_NAMED else "")
    return [f"nothing is left of {'speaker' if len(lost) == 1 else 'speakers'} {names}"]


def _time(seconds: float) -> str:
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
