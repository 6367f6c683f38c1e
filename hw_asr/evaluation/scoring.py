"""Predictions against references: reading both, corpus error rates, their uncertainty, alignments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hw_asr.metrics import CER, WER
from hw_base.errors import DataError
from hw_base.metrics import EditRate, Edits, count_edits
from hw_base.texts.files import read_json, read_text, transcript_files
from hw_base.texts.normalizers import NormalizerName, normalizer

LONGEST_TEXT = 100_000  # characters; comparing two such texts takes about a second, four where they share nothing
_LONGEST_ALIGNMENT = 4_000_000  # cells of the alignment table
_RESAMPLES = 1000

# ---------------------------------------------------------------------- reading


def read_references(path: Path, split: str | None = None) -> dict[str, str]:
    """Utterance id -> transcript, from a folder of ``<id>.txt`` or from an ``output.json``.

    Raises:
        DataError: nothing that can be used.
    """
    if path.is_dir():
        return _read_folder(path)
    texts = {}
    for utterance_id, row in _read_output(path, split).items():
        text = row.get("ground_truth", row.get("ground_trurh"))
        if text is not None:
            texts[utterance_id] = _checked(text, path, utterance_id, "ground_truth")
    if not texts:
        raise DataError(f"{path}: no utterance has a 'ground_truth'")
    return texts


def read_hypotheses(
    path: Path, decoder: str | None = None, split: str | None = None
) -> tuple[dict[str, str], str | None]:
    """Utterance id -> prediction, and the decoder it comes from, which a folder does not tell.

    Args:
        path: a folder of ``<id>.txt``, or an ``output.json``.
        decoder: ``argmax``, ``beam_search`` or another key ``pred_text_<decoder>``; None takes the file's primary one
            (``pred_text``), or ``beam_search`` of files that name none.

    Raises:
        DataError: nothing that can be used, or the decoder is not in the file.
    """
    if path.is_dir():
        if decoder is not None:
            raise DataError(f"{path}: --decoder {decoder} chooses from an output.json, and this is a folder")
        return _read_folder(path), None
    rows = _read_output(path, split)
    known = sorted({key[10:] for row in rows.values() for key in row if key.startswith("pred_text_") and row[key]})
    if decoder is None and all("pred_text" in row for row in rows.values()):
        named = {str(row.get("decoder", "")) for row in rows.values()}
        texts = {i: _checked(row["pred_text"], path, i, "pred_text") for i, row in rows.items()}
        return texts, named.pop() if len(named) == 1 else None
    if decoder is None:
        decoder = "beam_search" if "beam_search" in known else "argmax"
    key = f"pred_text_{decoder}"
    if not any(key in row for row in rows.values()):
        raise DataError(f"{path}: no utterance has {key!r}; decoders with predictions: {', '.join(known) or 'none'}")
    return {
        utterance_id: _checked(best(row.get(key)), path, utterance_id, key) for utterance_id, row in rows.items()
    }, decoder


def best(value: Any) -> Any:
    """The text of a prediction, or of the first of ``[[text, score], ...]``; no prediction is the empty text."""
    if isinstance(value, list):
        value = value[0] if value else ""
        value = value[0] if isinstance(value, list) and value else value
    return "" if value is None else value


def _checked(text: Any, path: Path, utterance_id: str, key: str) -> str:
    if not isinstance(text, str):
        raise DataError(f"{path}: utterance {utterance_id!r}: {key} must be a text, found {type(text).__name__}")
    if len(text) > LONGEST_TEXT:
        raise DataError(
            f"{path}: utterance {utterance_id!r}: {len(text)} characters, at most {LONGEST_TEXT} are compared"
        )
    return text


def _read_folder(folder: Path) -> dict[str, str]:
    """``<id>.txt`` or ``<id>.lab`` files; hidden ones and other kinds are not looked at."""
    files = transcript_files(folder)
    texts = {name: _checked(_read_text(path), folder, name, "the file") for name, path in files.items()}
    if not texts:
        raise DataError(f"{folder}: no <id>.txt in this folder")
    return texts


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > 4 * LONGEST_TEXT:
            raise DataError(f"{path}: {path.stat().st_size} bytes are too many for one utterance")
        return read_text(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _read_output(path: Path, split: str | None = None) -> dict[str, dict[str, Any]]:
    """Utterance id -> row of an ``output.json``, of one split where that is asked for."""
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path}: expected a list with one object for each utterance")
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            raise DataError(f"{path}: entry {number} must be an object with an 'id' (a text)")
        if split is not None and row.get("split") != split:
            continue
        if row["id"] in found:
            splits = {str(one.get("split")) for one in (found[row["id"]], row)}
            help_ = f"choose one with --split: {', '.join(sorted(splits))}" if len(splits) > 1 else "keep one"
            raise DataError(f"{path}: the utterance {row['id']!r} appears twice; {help_}")
        found[row["id"]] = row
    if not found:
        raise DataError(f"{path}: no utterance is of the split {split!r}")
    return found


# ---------------------------------------------------------------------- figures


@dataclass(frozen=True)
class Rate:
    """An error rate of a corpus.

    Attributes:
        corpus: sum of edits over sum of reference units.
        interval: bootstrap 95 % interval of it.
        utterance_mean: mean of the utterances' rates, which some older scripts report.
        edits: the corpus's counts.
        utterances: each utterance's counts, in the order of the references.
    """

    corpus: float
    interval: tuple[float, float]
    utterance_mean: float
    edits: Edits
    utterances: Sequence[Edits] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """For a report; without the utterances."""
        counts = self.edits._asdict() | {"correct": self.edits.correct}
        return {
            "corpus": self.corpus,
            "interval_95": list(self.interval),
            "utterance_mean": self.utterance_mean,
            **counts,
        }


@dataclass(frozen=True)
class Score:
    """References and hypotheses compared.

    Attributes:
        wer: words.
        cer: characters, with one space between words.
        ids: utterances with a reference, sorted.
        references: normalized, by id.
        hypotheses: normalized, by id; empty where there is none.
        missing: ids without a hypothesis; they count as recognized as nothing.
        extra: ids of hypotheses without a reference; they are not counted.
    """

    wer: Rate
    cer: Rate
    ids: list[str]
    references: dict[str, str]
    hypotheses: dict[str, str]
    missing: list[str]
    extra: list[str]

    def worst(self, count: int) -> list[str]:
        """The ids with most wrong words, the highest rate first among equals."""
        places = sorted(
            range(len(self.ids)), key=lambda i: (-self.wer.utterances[i].distance, -rate(self.wer.utterances[i]))
        )
        return [self.ids[i] for i in places[:count] if self.wer.utterances[i].distance]


def rate(edits: Edits) -> float:
    """Edits over reference units; an empty reference counts as one unit."""
    return edits.distance / max(edits.references, 1)


def score(
    references: Mapping[str, str], hypotheses: Mapping[str, str], normalization: NormalizerName = "lower", seed: int = 0
) -> Score:
    """Compare every reference with its hypothesis.

    Args:
        references: utterance id -> transcript.
        hypotheses: utterance id -> prediction.
        normalization: see `hw_base.texts.normalizers`.
        seed: of the bootstrap.
    """
    normalize = normalizer(normalization)
    ids = sorted(references)
    left = {i: normalize(references[i]) for i in ids}
    right = {i: normalize(hypotheses.get(i, "")) for i in ids}
    rates = [
        _rate(metric, [left[i] for i in ids], [right[i] for i in ids], seed) for metric in (WER("none"), CER("none"))
    ]
    missing, extra = sorted(left.keys() - hypotheses.keys()), sorted(hypotheses.keys() - left.keys())
    return Score(rates[0], rates[1], ids, left, right, missing, extra)


def _rate(metric: EditRate, references: list[str], hypotheses: list[str], seed: int) -> Rate:
    pairs = zip(references, hypotheses, strict=True)
    edits = [count_edits(metric.units(reference), metric.units(hypothesis)) for reference, hypothesis in pairs]
    total = Edits(*(sum(column) for column in zip(*edits, strict=True)))
    mean = sum(map(rate, edits)) / len(edits)
    return Rate(rate(total), bootstrap_interval(edits, seed), mean, total, edits)


def bootstrap_interval(edits: Sequence[Edits], seed: int = 0) -> tuple[float, float]:
    """95 % interval of a corpus rate: percentiles over corpora of utterances drawn with replacement (Efron 1979).

    Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004.
    """
    generator = np.random.default_rng(seed)
    counts = np.array([(one.distance, one.references) for one in edits], dtype=np.float64)
    rates = np.empty(_RESAMPLES)
    for i in range(_RESAMPLES):
        wrong, units = counts[generator.integers(len(counts), size=len(counts))].sum(axis=0)
        rates[i] = wrong / max(units, 1.0)
    low, high = np.percentile(rates, [2.5, 97.5])
    return float(low), float(high)


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[str | None, str | None]] | None:
    """Pair the units of two sequences with the fewest edits, and among those ways the fewest substitutions.

    Returns:
        ``(unit, unit)`` for a match or substitution, ``(unit, None)`` for a deletion, ``(None, unit)`` for an
        insertion; None where the sequences are too long for a table.
    """
    rows, columns = len(reference), len(hypothesis)
    if (rows + 1) * (columns + 1) > _LONGEST_ALIGNMENT:
        return None
    cost = min(rows, columns) + 1  # as in `hw_base.metrics`: one number holds the distance and the substitutions
    table = [[cost * j for j in range(columns + 1)]]
    for i, unit in enumerate(reference, start=1):
        above, row = table[-1], [cost * i]
        for j, other in enumerate(hypothesis, start=1):
            diagonal = above[j - 1] + (0 if unit == other else cost + 1)
            row.append(min(diagonal, above[j] + cost, row[-1] + cost))
        table.append(row)
    pairs: list[tuple[str | None, str | None]] = []
    i, j = rows, columns
    while i or j:
        same = i > 0 and j > 0 and reference[i - 1] == hypothesis[j - 1]
        if i and j and table[i][j] == table[i - 1][j - 1] + (0 if same else cost + 1):
            i, j = i - 1, j - 1
            pairs.append((reference[i], hypothesis[j]))
        elif i and table[i][j] == table[i - 1][j] + cost:
            i -= 1
            pairs.append((reference[i], None))
        else:
            j -= 1
            pairs.append((None, hypothesis[j]))
    return pairs[::-1]
