"""Error rates of a recognizer on synthesized speech."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from hw_base.config.schema import PathText
from hw_base.metrics import count_edits
from hw_base.recognizer import Recognizer
from hw_base.registry import METRICS
from hw_base.texts.normalizers import NormalizerName, normalizer
from hw_base.trained import load_recognizer
from hw_tts.metrics.base import Pair, SynthesisMetric

# Utterances that wait before they are transcribed together.
BATCH_SIZE = 32


class SynthesisErrorRate(SynthesisMetric):
    """Edits between the texts and what a recognizer hears, over the units of the texts; of the whole corpus.

    Utterances are gathered and transcribed together, at the latest when the sums are asked for.

    Args:
        recognizer: path of a recognizer's checkpoint.
        audio: what is transcribed; ``reference`` gives the recognizer's own errors on the recordings.
        device: where the recognizer computes; ``auto`` is the GPU if there is one.
        normalizer: of the text and the transcript, see `hw_base.texts.normalizers`; it knows no vocabulary, so what the
            recognizer cannot write counts as errors.

    Raises:
        CheckpointError, ConfigError: the checkpoint cannot be used.
    """

    sum_names = ("substitutions", "deletions", "insertions", "references", "correct", "pairs")
    weight_name = "references"

    def __init__(
        self,
        recognizer: PathText,
        audio: Literal["synthesized", "reference"] = "synthesized",
        device: Literal["auto", "cpu", "cuda"] = "auto",
        normalizer: NormalizerName = "letters",
    ) -> None:
        self._waiting: dict[int, list[Pair]] = {}
        super().__init__()
        self.audio, self.normalizer = audio, normalizer
        self._where = (recognizer, ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        _recognizer(*self._where)  # a path that is wrong is found out before hours of training

    @abstractmethod
    def units(self, text: str) -> Sequence[str]:
        """What a normalized text is counted in."""

    @property
    def totals(self) -> Tensor:
        """The sums, over everything that was added."""
        for sample_rate in list(self._waiting):
            self._transcribe(sample_rate)
        return self._totals

    @totals.setter
    def totals(self, value: Tensor) -> None:
        self._totals = value

    def update(self, pair: Pair) -> None:
        """Add a pair."""
        waiting = self._waiting.setdefault(pair.sample_rate, [])
        waiting.append(pair)
        if len(waiting) >= BATCH_SIZE:
            self._transcribe(pair.sample_rate)

    def compute(self) -> float:
        """The rate; it may exceed 1. Of nothing it is NaN."""
        substitutions, deletions, insertions, references, _, pairs = self.totals.tolist()
        return (substitutions + deletions + insertions) / max(references, 1.0) if pairs else float("nan")

    def reset(self) -> None:
        """Forget everything, also what waits."""
        self._waiting.clear()
        super().reset()

    def prepare(self, pairs: Sequence[Pair]) -> None:
        """Transcribe what no metric asked for before."""
        recognizer = _recognizer(*self._where)
        key = self._key
        for sample_rate in dict.fromkeys(pair.sample_rate for pair in pairs):
            new = [pair for pair in pairs if pair.sample_rate == sample_rate and key not in pair.transcripts]
            heard = recognizer.transcribe_batch([pair.waveform(self.audio) for pair in new], sample_rate) if new else []
            for pair, text in zip(new, heard, strict=True):
                pair.transcripts[key] = text

    @property
    def _key(self) -> tuple[str, str, str]:
        return (*self._where, self.audio)

    def _transcribe(self, sample_rate: int) -> None:
        waiting, key = self._waiting.pop(sample_rate), self._key
        self.prepare(waiting)
        normalize = normalizer(self.normalizer)
        for pair in waiting:
            edits = count_edits(self.units(normalize(pair.text)), self.units(normalize(pair.transcripts[key])))
            self._totals += torch.tensor([*edits, edits.correct, 1.0], dtype=torch.float64)


@METRICS.register()
class SynthesisCER(SynthesisErrorRate):
    """Character error rate of a recognizer on the synthesis; 0 is perfect."""

    def units(self, text: str) -> Sequence[str]:
        """Characters, without white space at the ends."""
        return text.strip()


@METRICS.register()
class SynthesisWER(SynthesisErrorRate):
    """Word error rate of a recognizer on the synthesis; 0 is perfect."""

    def units(self, text: str) -> Sequence[str]:
        """Words."""
        return text.split()


@lru_cache(maxsize=2)
def _recognizer(path: str, device: str) -> Recognizer:
    """One for all metrics that name the same checkpoint."""
    return load_recognizer(path, device)
