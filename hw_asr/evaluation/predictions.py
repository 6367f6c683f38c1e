"""What ``test.py`` does for recognition: predictions of every decoder in one pass, and their error rates."""

import logging
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_asr.trainer import CorpusMetrics
from hw_base import registry, storage
from hw_base.config.resolve import build
from hw_base.config.schema import Config
from hw_base.data.split import Split
from hw_base.errors import ConfigError
from hw_base.runs import outputs
from hw_base.runs.experiment import Experiment

log = logging.getLogger(__name__)

SHOWN = 5
GREEDY = "Greedy"


def test(config: Config, arguments: Namespace, state: dict[str, Any], device: torch.device) -> int:
    """Evaluate a checkpoint on the config's test splits and write what was recognised.

    Returns:
        Exit code 0.

    Raises:
        ConfigError: two utterances would write one prediction file, or an output folder cannot be written.
    """
    experiment = Experiment(config, device, state)
    model = experiment.model().eval()
    decoders = experiment.decoders()
    everything: list[dict[str, Any]] = []
    figures: dict[str, dict[str, float]] = {}
    for split in config.test_splits():
        metrics = {name: build(f"metrics.{name}", m, registry.METRICS) for name, m in config.metrics.items()}
        corpus = CorpusMetrics(metrics, decoders)
        rows = _recognise(experiment, model, decoders, split, corpus)
        figures[split] = corpus.compute(alias=False) if any(row["ground_truth"] is not None for row in rows) else {}
        everything += rows
    output = Path(arguments.output)
    storage.write_json(output, everything)
    storage.write_json(output.with_name("metrics.json"), figures)
    if arguments.predictions:
        _write_predictions(Path(arguments.predictions), everything, next(iter(decoders), "argmax"))
    _print_summary(everything, figures, output)
    return 0


@torch.inference_mode()
def posteriors_of(
    experiment: Experiment, model: torch.nn.Module, split: Split
) -> Iterator[tuple[dict[str, Any], Tensor, Tensor]]:
    """Run a model over a split, in float32, so that the batches make no difference.

    Yields:
        The batch, its ``log_probs`` (B, T, V) and ``log_probs_length`` (B,), both on the experiment's device.
    """
    for batch in experiment.loader(split):
        spectrogram = batch["spectrogram"].to(experiment.device)
        length = batch["spectrogram_length"].to(experiment.device)
        output = model(spectrogram=spectrogram, spectrogram_length=length)
        yield batch, output["log_probs"].float(), output["log_probs_length"]


@torch.inference_mode()
def _recognise(
    experiment: Experiment, model: torch.nn.Module, decoders: dict[str, Any], name: str, corpus: CorpusMetrics
) -> list[dict[str, Any]]:
    """The output rows of one split, in the order of its index."""
    split = experiment.split(name, evaluation=True, needs_text=False)
    rows: dict[str, dict[str, Any]] = {}
    for batch, log_probs, length in posteriors_of(experiment, model, split):
        n_best = {key: decoder(log_probs, length) for key, decoder in decoders.items()}
        for key, lists in n_best.items():
            corpus.update(key, batch["text"], [hypotheses[0].text for hypotheses in lists])
        for i, utterance in enumerate(batch["utterance_id"]):
            best = {key: lists[i] for key, lists in n_best.items()}
            rows[utterance] = _row(experiment.config, name, utterance, batch["audio_path"][i], batch["text"][i], best)
    return [rows[record.utterance_id] for record in split.records if record.utterance_id in rows]


def _row(
    config: Config, split: str, utterance: str, path: str, text: str | None, n_best: dict[str, list[Any]]
) -> dict[str, Any]:
    """One utterance of the output; ``ground_trurh`` is how the course's old template spelt it, and scripts read it."""
    greedy = [name for name in n_best if config.decoders[name].type == GREEDY]
    beams = [name for name in n_best if name not in greedy]
    row = {
        "id": utterance,
        "split": split,
        "audio_path": path,
        "ground_truth": text,
        "ground_trurh": text,
        "pred_text_argmax": n_best[greedy[0]][0].text if greedy else None,
        "pred_text_beam_search": [[h.text, h.score] for h in n_best[beams[0]]] if beams else [],
    }
    return row | {f"pred_text_{name}": n_best[name][0].text for name in n_best if name != "argmax"}


def _write_predictions(folder: Path, rows: list[dict[str, Any]], decoder: str) -> None:
    """One ``<id>.txt`` an utterance, of the decoder named first."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for row in rows:
            name = outputs.file_name(row["id"], ".txt", "--predictions")
            (folder / name).write_text(row[f"pred_text_{decoder}"] + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--predictions {folder}: cannot be written: {error.strerror}") from None


def _print_summary(rows: list[dict[str, Any]], figures: dict[str, dict[str, float]], output: Path) -> None:
    step = max(1, len(rows) // SHOWN)
    for row in rows[::step][:SHOWN]:
        if row["ground_truth"] is not None:
            print(f"said:       {row['ground_truth']}")
        heard = row["pred_text_argmax"]
        print(f"recognised: {heard if heard is not None else row['pred_text_beam_search'][0][0]}\n")
    for split, values in figures.items():
        print(
            f"{split}: " + (", ".join(f"{k} {v:.4f}" for k, v in values.items()) or "no transcripts, so no error rates")
        )
    print(f"{len(rows)} utterances -> {output} and {output.with_name('metrics.json')}")
