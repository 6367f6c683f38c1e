"""How submissions of speech synthesis are graded: recordings of hidden texts beside those of a speaker."""

import hashlib
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_base.audio import io as audio
from hw_base.errors import ConfigError, DataError
from hw_base.grading.contract import Item, Prediction, Scores, TaskGrading
from hw_base.grading.settings import Settings
from hw_base.metrics import count_edits
from hw_base.recognizer import Recognizer
from hw_base.texts.normalizers import normalizer
from hw_base.trained import load_recognizer
from hw_tts.metrics.base import MeanMetric, Pair
from hw_tts.metrics.cepstral import MCD
from hw_tts.metrics.prosody import LogF0RMSE, SpeakingRateError, VoicingError
from hw_tts.metrics.timbre import TimbreSimilarity
from hw_tts.synthesizer import Synthesizer

_METRICS: dict[str, type[MeanMetric]] = {
    "mcd": MCD,
    "log_f0_rmse": LogF0RMSE,
    "voicing_error": VoicingError,
    "duration_error": SpeakingRateError,
    "speaker_similarity": TimbreSimilarity,
}
_CER = "cer"
_normalize = normalizer("letters")  # a recognizer writes no punctuation
_LISTED = 50
# A recording may be so many times as long as the reference, and this many seconds whatever the reference has.
_LONGEST_FACTOR, _LONGEST_SECONDS = 5.0, 20.0
_WORST = {"speaker_similarity": -1.0, "mcd": 30.0}


class TTSGrading(TaskGrading):
    """See `TaskGrading`. A missing or unusable recording counts as silence, and a figure that is not defined for a
    pair as the worst of its kind.
    """

    given = "text"
    suffix = ".wav"

    def check(self, settings: Settings) -> None:
        """The metrics must be known ones, and the recognizer that listens must open."""
        known = [*_METRICS, *([_CER] if _recognizer(settings) else [])]
        unknown = sorted(set(settings.metrics or []) - set(known))
        if unknown:
            hint = "cer needs 'recognizer'" if _CER in unknown else f"known are {', '.join([*_METRICS, _CER])}"
            raise ConfigError(f"metrics: {', '.join(unknown)}: cannot be computed; {hint}")

    def predict(self, checkpoint: Path, data: Path, output: Path) -> dict[str, Any]:
        """Say the texts of ``data/transcriptions``, each into ``output/<id>.wav``."""
        synthesizer = Synthesizer.load(checkpoint)
        for path in sorted((data / "transcriptions").iterdir()):
            torch.manual_seed(0)  # two runs agree, also of models that draw at random
            try:
                waveform = synthesizer.speak_batch([path.read_text(encoding="utf-8").strip()])[0]
            except DataError as error:  # one text that it cannot say is one prediction that is missing
                print(f"{path.stem}: {error}", file=sys.stderr)
                continue
            audio.save(output / f"{path.stem}.wav", waveform, synthesizer.sample_rate)
        model = synthesizer.model
        return {"model": type(model).__name__, "parameters": sum(p.numel() for p in model.parameters())}

    def read(self, path: Path, decoder: str | None) -> Mapping[str, Prediction]:
        """A folder of ``<id>.wav``."""
        if not path.is_dir():
            raise DataError(f"{path.name}: expected a folder with <id>.wav")
        found: dict[str, Prediction] = {p.stem: p for p in sorted(path.glob("*.wav")) if p.name[0] != "."}
        if not found:
            raise DataError("no <id>.wav was found")
        return found

    def score(self, items: list[Item], predictions: Mapping[str, Prediction], settings: Settings) -> Scores:
        """The mean of every metric, and a row for every utterance."""
        recognizer = _recognizer(settings)
        names = settings.metrics or [*_METRICS, *([_CER] if recognizer else [])]
        rows, heard = [], _Heard(recognizer if _CER in names else None)
        for item in items:
            pair = _pair(item, predictions.get(item.id))
            row: dict[str, Any] = {"id": item.id, "reference": item.text, "prediction": heard.add(pair)}
            row |= {name: _measure(name, pair) for name in names if name != _CER}
            row["seconds"] = len(pair.synthesized) / pair.sample_rate
            row["samples_sha256"] = self.form(predictions[item.id], settings) if item.id in predictions else ""
            rows.append(row)
        measured = [name for name in names if name != _CER]
        figures = {name: sum(row[name] for row in rows) / len(rows) for name in measured}
        figures |= {_CER: heard.rate()} if _CER in names else {}
        missing = sorted(item.id for item in items if item.id not in predictions)
        details = {
            "missing": {"count": len(missing), "ids": missing[:_LISTED]},
            "recognizer_sha256": _sha256(Path(settings.recognizer)) if settings.recognizer else None,
        }
        return Scores(figures, details, rows)

    def form(self, prediction: Prediction, settings: Settings) -> str:
        """The digest of the samples."""
        waveform, rate = audio.load(prediction)
        quantized = (waveform * 32767).round().to(torch.int16)
        return hashlib.sha256(f"{rate}".encode() + quantized.numpy().tobytes()).hexdigest() if len(waveform) else ""

    def problems(self, item: Item, prediction: Prediction) -> list[str]:
        """Files that are no usable recording of the text: damaged, NaN, no wav, or far too long."""
        with open(prediction, "rb") as file:
            if file.read(4) != b"RIFF":
                return ["unreadable"]
        try:
            found, reference = audio.info(prediction), audio.info(item.audio or "")
            if found.duration > max(_LONGEST_SECONDS, _LONGEST_FACTOR * reference.duration):
                return ["absurd_length"]
            audio.load(prediction)
        except DataError:
            return ["unreadable"]
        return []


class _Heard:
    """Transcripts of what was synthesized, and their character error rate."""

    def __init__(self, recognizer: Recognizer | None) -> None:
        self.recognizer, self.edits, self.units = recognizer, 0, 0

    def add(self, pair: Pair) -> str:
        if self.recognizer is None:
            return ""
        text = _normalize(self.recognizer.transcribe_batch([pair.synthesized], pair.sample_rate)[0])
        edits = count_edits(_normalize(pair.text), text)
        self.edits, self.units = self.edits + edits.distance, self.units + edits.references
        return text

    def rate(self) -> float:
        return self.edits / max(self.units, 1)


def _pair(item: Item, prediction: Prediction | None) -> Pair:
    assert item.audio is not None
    reference, rate = audio.load(item.audio)
    synthesized: Tensor = torch.zeros(len(reference)) if prediction is None else audio.load(prediction, rate)[0]
    return Pair(reference, synthesized, rate, text=item.text or "", utterance_id=item.id)


def _measure(name: str, pair: Pair) -> float:
    metric = _METRICS[name]()
    metric.update(pair)
    value = metric.compute() if metric.totals[1] else math.nan
    return value if math.isfinite(value) else _WORST.get(name, 1.0)


def _recognizer(settings: Settings) -> Recognizer | None:
    return load_recognizer(settings.recognizer) if settings.recognizer else None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


GRADING = TTSGrading()
