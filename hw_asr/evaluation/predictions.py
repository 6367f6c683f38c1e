"""What ``test.py`` does for recognition: predictions of every decoder in one pass, and their error rates."""

import logging
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_asr import recognizer as recognition
from hw_asr.decoders import GREEDY
from hw_asr.decoders.outputs import decodable
from hw_asr.trainer import CorpusMetrics
from hw_base import distributed, registry, storage
from hw_base.config.resolve import build
from hw_base.config.schema import Config
from hw_base.data.split import Split
from hw_base.errors import ConfigError
from hw_base.nn.model import BaseModel
from hw_base.runs import outputs
from hw_base.runs.experiment import Experiment
from hw_base.task import BaseTask

log = logging.getLogger(__name__)

SHOWN = 5
# Decoders of these names own the keys of the course's output.
ARGMAX, BEAM_SEARCH = "argmax", "beam_search"


def test(task: BaseTask, arguments: Namespace, state: dict[str, Any], device: torch.device) -> int:
    """Evaluate a checkpoint on the config's test splits and write what was recognized.

    Returns:
        Exit code 0.

    Raises:
        ConfigError: two utterances would write one prediction file, or an output folder cannot be written.
    """
    config = task.config
    experiment = Experiment(config, device, state, arguments.resume, task)
    decoders, primary = experiment.decoders(), config.primary_decoder()
    if primary is None:
        raise ConfigError("decoders: recognition needs one, for example --set decoders.argmax=Greedy")
    splits = [experiment.split(name, evaluation=True, needs_text=False) for name in config.test_splits()]
    if arguments.predictions:
        _check_names(splits)
    model = experiment.model().eval()
    for decoder in decoders.values():
        decoder.bind(model)
    everything: list[dict[str, Any]] = []
    figures: dict[str, dict[str, float]] = {}
    for split in splits:
        experiment.report_unknown(split)
        metrics = {name: build(f"metrics.{name}", m, registry.METRICS) for name, m in config.metrics.items()}
        corpus = CorpusMetrics(metrics, decoders, primary)
        rows = _recognize(experiment, model, decoders, split, corpus)
        has_texts = any(record.text is not None for record in split.records)
        figures[split.name] = corpus.compute(alias=False) if has_texts else {}
        everything += rows
    if distributed.is_main():
        output = Path(arguments.output)
        storage.write_json(output, everything)
        outputs.add_metrics(output, _about(arguments, state, config, primary), figures)
        if arguments.predictions:
            _write_predictions(Path(arguments.predictions), everything)
        _print_summary(everything, figures, output, primary)
    return 0


def _about(arguments: Namespace, state: dict[str, Any], config: Config, primary: str) -> dict[str, Any]:
    """What the figures are of."""
    normalizers = {name: metric.args.get("normalizer") for name, metric in config.metrics.items()}
    return {
        "checkpoint": str(arguments.resume),
        "step": state.get("step"),
        "decoder": primary,
        "normalizers": {name: value for name, value in normalizers.items() if value is not None},
        "decoders": {name: {"type": decoder.type, "args": decoder.args} for name, decoder in config.decoders.items()},
    }


def _check_names(splits: list[Split]) -> None:
    """Raise ConfigError where ids cannot be file names, or two splits have one id."""
    seen: dict[str, str] = {}
    for split in splits:
        for record in split.records:
            name = outputs.file_name(record.utterance_id, ".txt", "--predictions")
            other = seen.setdefault(name, split.name)
            if other != split.name:
                raise ConfigError(
                    f"--predictions: {other} and {split.name} both have an utterance {record.utterance_id!r}, and one "
                    "file cannot hold both; test one split at a time"
                )


@torch.inference_mode()
def outputs_of(
    experiment: Experiment, model: BaseModel, split: Split
) -> Iterator[tuple[dict[str, Any], dict[str, Tensor]]]:
    """Run a model over a split, in float32, so that the batches make no difference; long recordings in windows.

    Yields:
        The batch, and what decoders read: ``log_probs`` (B, T, V) and its like, and ``log_probs_length`` (B,), on the
        experiment's device.
    """
    recognizer: Any = experiment.task.recognizer(model, experiment.device)
    longest = recognition.LONGEST_SECONDS * split.sample_rate
    for batch in experiment.loader(split):
        if int(batch["waveform_length"].max()) > longest:
            lengths = batch["waveform_length"].tolist()
            waveforms = [row[:n] for row, n in zip(batch["waveform"], lengths, strict=True)]
            yield batch, recognizer.outputs(waveforms, split.sample_rate)
            continue
        spectrogram = batch["spectrogram"].to(experiment.device)
        length = batch["spectrogram_length"].to(experiment.device)
        yield batch, decodable(model(spectrogram=spectrogram, spectrogram_length=length))


@torch.inference_mode()
def _recognize(
    experiment: Experiment, model: BaseModel, decoders: dict[str, Any], split: Split, corpus: CorpusMetrics
) -> list[dict[str, Any]]:
    """The output rows of one split, of all processes, in the order of its index."""
    rows: dict[str, dict[str, Any]] = {}
    for batch, made in outputs_of(experiment, model, split):
        length = made["log_probs_length"]
        n_best = {key: decoder(made[decoder.reads], length) for key, decoder in decoders.items()}
        for key, lists in n_best.items():
            corpus.update(key, batch["text"], [hypotheses[0].text for hypotheses in lists])
        for i, utterance in enumerate(batch["utterance_id"]):
            best = {key: lists[i] for key, lists in n_best.items()}
            about = {"id": utterance, "split": split.name, "audio_path": batch["audio_path"][i]}
            about["speaker"] = batch["speaker"][i]
            rows[utterance] = about | _texts(experiment.config, batch["text"][i], best)
    return outputs.in_order(list(rows.values()), split)


def _texts(config: Config, text: str | None, n_best: dict[str, list[Any]]) -> dict[str, Any]:
    """What was said and recognized; ``ground_trurh`` is the spelling of the old template, which scripts read."""
    greedy = [ARGMAX] if ARGMAX in n_best else [name for name in n_best if config.decoders[name].type in GREEDY]
    others = [name for name in n_best if config.decoders[name].type not in GREEDY and name != ARGMAX]
    beams = [BEAM_SEARCH] if BEAM_SEARCH in n_best else others
    primary = config.primary_decoder() or ""
    row = {
        "ground_truth": text,
        "ground_trurh": text,
        "decoder": primary,
        "pred_text": n_best[primary][0].text,
        "pred_text_argmax": n_best[greedy[0]][0].text if greedy else None,
        "pred_text_beam_search": [[h.text, h.score] for h in n_best[beams[0]]] if beams else [],
    }
    return row | {f"pred_text_{name}": n_best[name][0].text for name in n_best if name not in (ARGMAX, BEAM_SEARCH)}


def _write_predictions(folder: Path, rows: list[dict[str, Any]]) -> None:
    """One ``<id>.txt`` an utterance, of the primary decoder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for row in rows:
            name = outputs.file_name(row["id"], ".txt", "--predictions")
            (folder / name).write_text(row["pred_text"] + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--predictions {folder}: cannot be written: {error.strerror}") from None


def _print_summary(
    rows: list[dict[str, Any]], figures: dict[str, dict[str, float]], output: Path, primary: str
) -> None:
    step = max(1, len(rows) // SHOWN)
    print(f"decoder: {primary}\n")
    for row in rows[::step][:SHOWN]:
        if row["ground_truth"] is not None:
            print(f"said:       {row['ground_truth']}")
        print(f"recognized: {row['pred_text']}\n")
    for split, values in figures.items():
        print(
            f"{split}: " + (", ".join(f"{k} {v:.4f}" for k, v in values.items()) or "no transcripts, so no error rates")
        )
    print(f"{len(rows)} utterances -> {output} and {output.with_name('metrics.json')}")
