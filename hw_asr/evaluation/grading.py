"""How submissions of speech recognition are graded: texts of hidden recordings, and their error rates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from hw_asr.evaluation import old_template, scoring
from hw_base.audio import io as audio
from hw_base.errors import ConfigError
from hw_base.grading.contract import Item, Prediction, Scores, TaskGrading
from hw_base.grading.settings import Settings
from hw_base.registry import suggest
from hw_base.storage import write_json
from hw_base.texts.normalizers import NormalizerName, identity, normalizer
from hw_base.trained import Given, load_recognizer

# A hypothesis may have so many times the characters of its reference, and this many whatever the reference has.
_LONGEST_FACTOR, _LONGEST = 20, 1_000
_LISTED = 50
# Utterances whose audio is in memory at a time.
_BATCH = 64


class ASRGrading(TaskGrading):
    """See `TaskGrading`."""

    given = "audio"
    suffix = ".txt"

    def check(self, settings: Settings) -> None:
        """The normalizer must be a known one."""
        if settings.normalizer not in get_args(NormalizerName):
            hint = suggest(settings.normalizer, list(get_args(NormalizerName)))
            raise ConfigError(f"normalizer: {settings.normalizer!r} is unknown. {hint}")

    def predict(self, checkpoint: Path, data: Path, output: Path) -> dict[str, Any]:
        """Transcribe ``data/audio`` into ``output/output.json``."""
        recognizer: Any = load_recognizer(checkpoint, given=Given(trust=True))  # written by the sandbox itself
        paths = sorted((data / "audio").iterdir())
        rate = recognizer.features.sample_rate
        rows = []
        for start in range(0, len(paths), _BATCH):
            part = paths[start : start + _BATCH]
            texts = recognizer.transcribe_batch([audio.load(path, rate)[0] for path in part], rate)
            rows += [{"id": p.stem, "pred_text_argmax": text} for p, text in zip(part, texts, strict=True)]
        write_json(output / "output.json", rows)
        model = recognizer.model
        return {"model": type(model).__name__, "parameters": sum(p.numel() for p in model.parameters())}

    def convert(self, weights: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
        """See `old_template`."""
        return old_template.convert(weights, config)

    def read(self, path: Path, decoder: str | None) -> Mapping[str, Prediction]:
        """An ``output.json`` or a folder of ``<id>.txt``."""
        return scoring.read_hypotheses(path, None if path.is_dir() else decoder)[0]

    def score(self, items: list[Item], predictions: Mapping[str, Prediction], settings: Settings) -> Scores:
        """WER and CER with intervals, and a row for every utterance."""
        kind = cast(Any, settings.normalizer)
        references = {item.id: item.text or "" for item in items}
        result = scoring.score(references, {i: str(text) for i, text in predictions.items()}, kind)
        rows = []
        for index, utterance in enumerate(result.ids):
            words, characters = result.wer.utterances[index], result.cer.utterances[index]
            row: dict[str, Any] = {
                "id": utterance,
                "reference": references[utterance],
                "prediction": str(predictions.get(utterance, "")),
            }
            row |= {"wer": scoring.rate(words), "cer": scoring.rate(characters)}
            row |= {"words": words._asdict(), "characters": characters._asdict()}
            rows.append(row)
        return Scores(
            metrics={"wer": result.wer.corpus, "cer": result.cer.corpus},
            details={
                "wer": result.wer.as_dict(),
                "cer": result.cer.as_dict(),
                "missing": {"count": len(result.missing), "ids": result.missing[:_LISTED]},
            },
            rows=rows,
            normalizer=identity(cast(Any, settings.normalizer)),
        )

    def form(self, prediction: Prediction, settings: Settings) -> str:
        """The normalized text."""
        return normalizer(cast(Any, settings.normalizer))(str(prediction))

    def problems(self, item: Item, prediction: Prediction) -> list[str]:
        """Texts far longer than what is said."""
        longest = max(_LONGEST, _LONGEST_FACTOR * len(item.text or ""))
        return ["absurd_length"] if len(str(prediction)) > longest else []


GRADING = ASRGrading()
