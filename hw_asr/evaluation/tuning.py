"""Language-model weights for a decoder: posteriors computed once, searched over a grid, drawn as a surface."""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hw_asr.decoders import BaseDecoder, Hypothesis
from hw_asr.evaluation.predictions import outputs_of
from hw_asr.metrics import CER, WER
from hw_base import checkpoint
from hw_base.data.split import Split
from hw_base.errors import CheckpointError, DataError, MissingPackageError
from hw_base.nn.model import BaseModel
from hw_base.runs.experiment import Experiment

log = logging.getLogger(__name__)

BATCH_SIZE = 32
# Above this many cells the numbers in the picture would overlap.
_MOST_NUMBERS = 150


@dataclass(frozen=True)
class Posteriors:
    """What an acoustic model made of a split.

    Attributes:
        frames (Tensor): what the decoder reads, all utterances in a row: posteriors in natural log, (sum of T, V), or a
            transducer's ``encoder_states``; float32.
        log_probs_length (Tensor): frames of each utterance, (N,), int64.
        texts: references.
    """

    frames: Tensor
    log_probs_length: Tensor
    texts: list[str]

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Frames (B, T, ...) and ``log_probs_length`` (B,) of up to `BATCH_SIZE` utterances."""
        utterances = self._utterances()
        for at in range(0, len(utterances), BATCH_SIZE):
            part = utterances[at : at + BATCH_SIZE]
            yield pad_sequence(part, batch_first=True), self.log_probs_length[at : at + BATCH_SIZE]

    def __getitem__(self, kept: slice) -> "Posteriors":
        """Some of the utterances."""
        return Posteriors(torch.cat(self._utterances()[kept]), self.log_probs_length[kept], self.texts[kept])

    def _utterances(self) -> list[Tensor]:
        return list(torch.split(self.frames, self.log_probs_length.tolist()))


@dataclass(frozen=True)
class Point:
    """A decoder's figures with certain weights.

    Attributes:
        lm_weight, word_score: natural log, see ``BeamSearch``.
        wer, cer: of the corpus, as fractions.
        seconds: of decoding, all utterances.
    """

    lm_weight: float
    word_score: float
    wer: float
    cer: float
    seconds: float


@torch.inference_mode()
def compute(
    experiment: Experiment, split: Split, reads: str = "log_probs", model: BaseModel | None = None
) -> Posteriors:
    """Run the model over an evaluation split; utterances in the order of the loader.

    Args:
        experiment: of the checkpoint.
        split: for evaluation.
        reads: the output that is kept.
        model: of the experiment; None builds it.

    Raises:
        DataError: an utterance cannot be read, or none can.
    """
    model = (experiment.model() if model is None else model).eval()
    frames: list[Tensor] = []
    texts: list[str] = []
    for batch, outputs in outputs_of(experiment, model, split):
        lengths = outputs["log_probs_length"].tolist()
        frames += [x[:n].cpu() for x, n in zip(outputs[reads], lengths, strict=True)]
        texts += batch["text"]
    if not frames:
        raise DataError(f"{split.name}: no utterance could be used")
    return Posteriors(torch.cat(frames), torch.tensor([len(x) for x in frames]), texts)


def compute_once(
    experiment: Experiment, split: Split, source: Path, folder: Path, reads: str, model: BaseModel
) -> Posteriors:
    """`compute`, or what an earlier call with the same checkpoint, model and utterances left in the folder.

    Args:
        experiment, split: see `compute`.
        source: the checkpoint's file.
        folder: where ``posteriors-<split>.pth`` is kept.
        reads, model: see `compute`.

    Raises:
        CheckpointError: the file cannot be written.
    """
    path, key = folder / f"posteriors-{split.name}.pth", _key(experiment, split, reads, source)
    try:
        state = checkpoint.load(path) if path.exists() else {}
    except CheckpointError as error:
        log.warning("%s; computed again", error)
        state = {}
    if state.get("key") == key:
        log.info("%s: posteriors of an earlier search, from %s", split.name, path)
        return Posteriors(state["frames"], state["log_probs_length"], state["texts"])
    found = compute(experiment, split, reads, model)
    content = {"frames": found.frames, "log_probs_length": found.log_probs_length, "texts": found.texts}
    checkpoint.save(path, {"key": key, **content})
    return found


def _key(experiment: Experiment, split: Split, reads: str, source: Path) -> str:
    """Names everything that posteriors depend on."""
    status = source.stat()
    sections = experiment.config.model_dump(mode="json", include={"features", "model", "text_encoder"})
    records = [[r.utterance_id, r.audio_path, r.text] for r in split.records]
    content = [str(source.resolve()), status.st_size, status.st_mtime_ns, sections, records, reads]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@torch.inference_mode()
def decode(decoder: BaseDecoder, posteriors: Posteriors) -> list[list[Hypothesis]]:
    """The n-best lists of all utterances."""
    return [n_best for batch in posteriors.batches() for n_best in decoder(*batch)]


def measure(decoder: BaseDecoder, posteriors: Posteriors, lm_weight: float = 0.0, word_score: float = 0.0) -> Point:
    """Decode and score; the weights are only noted down."""
    start = time.perf_counter()
    texts = [n_best[0].text for n_best in decode(decoder, posteriors)]
    seconds = time.perf_counter() - start
    wer, cer = WER(), CER()
    wer.update(posteriors.texts, texts)
    cer.update(posteriors.texts, texts)
    return Point(lm_weight, word_score, wer.compute(), cer.compute(), seconds)


def search(
    make: Callable[[float, float], BaseDecoder],
    posteriors: Posteriors,
    lm_weights: Iterable[float],
    word_scores: Sequence[float],
) -> Iterator[Point]:
    """Figures at every point of the grid, one language-model weight after another.

    Args:
        make: ``(lm_weight, word_score) -> decoder``.
        posteriors: of an evaluation split.
        lm_weights, word_scores: the grid.
    """
    for lm_weight in lm_weights:
        for word_score in word_scores:
            yield measure(make(lm_weight, word_score), posteriors, lm_weight, word_score)


def best(points: Iterable[Point]) -> Point:
    """The lowest word error rate; of equal ones the one with the most evidence, then the smallest weights.

    Evidence is the character error rate, and the word error rate of the point and its neighbors in the grid together:
    a plateau's middle rests on more of what was measured than its edge.
    """
    points = list(points)
    rows, columns = (
        {value: i for i, value in enumerate(sorted(set(axis)))} for axis in zip(*map(_weights, points), strict=True)
    )

    def around(point: Point) -> float:
        row, column = rows[point.lm_weight], columns[point.word_score]
        near = [p.wer for p in points if max(abs(rows[p.lm_weight] - row), abs(columns[p.word_score] - column)) <= 1]
        return round(sum(near) / len(near), 9)

    return min(points, key=lambda p: (p.wer, p.cer, around(p), p.lm_weight, abs(p.word_score)))


def verdict(points: Iterable[Point], greedy: Point, split: str) -> str:
    """What the search says about the language model, where it brought nothing; else empty.

    Args:
        points: of the search.
        greedy: of the most probable tokens alone.
        split: that was decoded.
    """
    points = list(points)
    without = min([greedy.wer, *(point.wer for point in points if point.lm_weight == 0)])
    if without == 0:
        return (
            f"{split} is recognized without a mistake by the acoustics alone, so it says nothing about the weights; "
            "search on more or harder utterances (--split)"
        )
    if best(points).wer >= without:
        return f"the language model does not help on {split}: WER {best(points).wer:.4f} with it, {without:.4f} without"
    return ""


def _weights(point: Point) -> tuple[float, float]:
    return point.lm_weight, point.word_score


def draw(points: Sequence[Point], title: str = "") -> Any:
    """The word error rate over the grid, the best point framed.

    Returns:
        A ``matplotlib.figure.Figure`` of its own, unknown to pyplot.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError as error:
        raise MissingPackageError("the picture of hw_asr.tune_decoder", "matplotlib") from error
    x, y = sorted({p.lm_weight for p in points}), sorted({p.word_score for p in points})
    rates = torch.full((len(y), len(x)), float("nan"))
    for p in points:
        rates[y.index(p.word_score), x.index(p.lm_weight)] = 100 * p.wer
    figure = Figure(figsize=(max(5.0, 2.5 + 0.7 * len(x)), max(2.8, 1.6 + 0.5 * len(y))), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(rates.numpy(), origin="lower", aspect="auto", cmap="viridis_r")
    figure.colorbar(image, ax=axes, label="WER, %", pad=0.01)
    axes.set_xticks(range(len(x)), [f"{value:g}" for value in x])
    axes.set_yticks(range(len(y)), [f"{value:g}" for value in y])
    axes.set(xlabel="lm_weight", ylabel="word_score")
    axes.set_title(title.replace("$", r"\$"), loc="left", fontsize="medium")
    if rates.numel() <= _MOST_NUMBERS:
        middle = (rates.nan_to_num(0.0).max() + rates.nan_to_num(1e9).min()) / 2
        for (row, column), value in np.ndenumerate(rates.numpy()):
            color = "white" if value > middle else "black"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize="small", color=color)
    chosen = best(points)
    corner = (x.index(chosen.lm_weight) - 0.5, y.index(chosen.word_score) - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="red", linewidth=2.5))
    return figure
