"""What every dataset keeps to."""

import torch

from hw_base.checks.contract import Candidate, Contract, Outcome, expect
from hw_base.checks.table import declare
from hw_base.data.dataset import BaseDataset, Record

DATASET: Contract[Candidate] = Contract("dataset")

# Utterances that are decoded, spread over the index.
_N_DECODED = 8
# Bytes of a file name on the usual file systems, less an extension.
_MAX_NAME = 240
# One frame of the features.
_FRAME = 0.011


def check_dataset(candidate: Candidate) -> list[Outcome]:
    """All properties of a dataset."""
    return DATASET.check(candidate)


def _some(dataset: BaseDataset) -> list[Record]:
    records = [record for record in dataset.records if "audio_error" not in record.extra]
    return records[:: max(1, len(records) // _N_DECODED)][:_N_DECODED]


@DATASET.property("the folder is empty or has another layout, or super().__init__(records) is not called")
def there_are_utterances(candidate: Candidate) -> None:
    dataset: BaseDataset = candidate.build()
    expect(len(dataset) > 0, "at least one utterance", len(dataset))
    expect(len(dataset) == len(dataset.records), "len() to be the number of records", len(dataset))


@DATASET.property("ids are taken from file names alone where two folders have files of one name")
def ids_are_unique(candidate: Candidate) -> None:
    seen: set[str] = set()
    for record in candidate.build().records:
        expect(record.utterance_id not in seen, "each id once", f"{record.utterance_id!r} twice")
        seen.add(record.utterance_id)


@DATASET.property("ids are paths, or hold what a file system refuses; predictions are written as <id>.txt")
def ids_can_be_file_names(candidate: Candidate) -> None:
    for record in candidate.build().records:
        name = record.utterance_id
        usable = name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0", "\n"}
        usable = usable and len(name.encode()) <= _MAX_NAME
        expect(usable, "ids that can be file names", repr(name))


@DATASET.property("a path is wrong, samples are integers that were not scaled, or channels are not mixed")
def audio_is_decoded_to_mono_floats(candidate: Candidate) -> None:
    dataset: BaseDataset = candidate.build()
    for record in _some(dataset):
        waveform, rate = dataset.read(record)
        where = f"utterance {record.utterance_id!r}"
        expect(waveform.dim() == 1 and len(waveform) > 0, f"{where}: a waveform (S,)", tuple(waveform.shape))
        expect(waveform.dtype == torch.float32, f"{where}: float32", waveform.dtype)
        expect(rate > 0, f"{where}: a sample rate in Hz", rate)
        peak = float(waveform.abs().max())
        expect(peak <= 1.0, f"{where}: samples within [-1, 1]", f"a peak of {peak:.4g}")


@DATASET.property("durations are in samples or milliseconds, or count at another rate than the file's")
def durations_are_true_within_a_frame(candidate: Candidate) -> None:
    dataset: BaseDataset = candidate.build()
    for record in _some(dataset):
        waveform, rate = dataset.read(record)
        seconds = len(waveform) / rate
        close = abs(seconds - record.duration) <= _FRAME or (dataset.shortens and seconds < record.duration)
        expect(close, f"utterance {record.utterance_id!r}: {seconds:.3f} s", f"a duration of {record.duration:.3f} s")


@DATASET.property("a transcript is missing and stands there as empty text, or as bytes")
def transcripts_are_text_or_none(candidate: Candidate) -> None:
    for record in candidate.build().records:
        fine = record.text is None or (isinstance(record.text, str) and bool(record.text.strip()))
        expect(fine, f"utterance {record.utterance_id!r}: a text, or None where there is none", repr(record.text))


@DATASET.property("files are listed in the order of the file system, or shuffled")
def the_order_is_always_the_same(candidate: Candidate) -> None:
    first = [record.utterance_id for record in candidate.build().records]
    second = [record.utterance_id for record in candidate.build().records]
    expect(first == second, "the same order at the second time", "another one")


@DATASET.property("times are in samples or milliseconds, or belong to another utterance")
def phones_lie_within_the_audio(candidate: Candidate) -> None:
    for record in candidate.build().records:
        end = 0.0
        for symbol, start, stop in record.extra.get("phones", ()):
            where = f"utterance {record.utterance_id!r}, {symbol!r}"
            expect(end - 1e-6 <= start <= stop, f"{where}: intervals in order", f"{start} to {stop} after {end}")
            end = stop
        expect(end <= record.duration + _FRAME, f"at most {record.duration:.3f} s", f"an interval to {end:.3f} s")


declare("datasets", check_dataset, BaseDataset)
