"""SpeechBrain's CTC recipe on the miniature of LibriSpeech: ``python -m benchmarks.librispeech_mini_peer -o RUN``.

The peer of ``configs/librispeech_mini/``: the splits, the limits of length and the characters of its ``ds2.json``, a
budget of processor time on one thread, and the same WER and CER; all else is SpeechBrain's own. Of its CTC recipes

* ``crdnn`` is ``recipes/TIMIT/ASR/CTC``, which is for as little speech as this, with the time pooling and the LSTM that
  its recipes for LibriSpeech have, and
* ``conformer`` is ``recipes/LibriSpeech/ASR/CTC/hparams/conformer_large.yaml``,

both with about as many parameters as ``ds2.json``, 4.5 and 4.2 million, and so few channels that a CPU sees the corpus
more than once. Batches of 25 s and AdamW were chosen by the training loss of the first two minutes: batches of 50 s
took twice as long to the same loss, and the Adadelta of ``TIMIT`` had a higher one after as many steps.

The budget holds everything up to the end of training, start and validation included, and not the tests. A run that was
ended is resumed by the same command; what was computed since its last checkpoint, of at most three minutes, does not
count. The number of averaged checkpoints and the weights of a language model are chosen on val; test-other is looked at
once.
"""

import argparse
import json
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import hw_asr  # noqa: F401 - fills the registries
from benchmarks import measuring
from hw_asr.metrics import CER, WER
from hw_base.config.read import read
from hw_base.config.resolve import resolve
from hw_base.data.cache import Room
from hw_base.data.split import Split
from hw_base.errors import HwError
from hw_base.runs.experiment import Experiment

CONFIG = Path(__file__).parent.parent / "configs" / "librispeech_mini" / "ds2.json"
TEST = "test-other"
RECIPES = ("crdnn", "conformer")
AVERAGES = (1, 3, 5, 10)
Decode = Callable[..., dict[str, str]]
LM_WEIGHTS, WORD_SCORES = (0.3, 0.6, 0.9, 1.2), (0.0, 1.0, 2.0)


def splits_of(data: str, limit: int | None) -> tuple[Any, dict[str, Split]]:
    """The text encoder and the splits of our config, by name; recordings stay in memory once they are read."""
    sets = [f"data.*.datasets.*.args.root={data}"]
    sets += [] if limit is None else [f"data.*.limit={limit}"]
    experiment = Experiment(resolve(dict(read(CONFIG)), sets), torch.device("cpu"))
    splits = {name: experiment.split(name, evaluation=name != "train") for name in ("train", "val", TEST)}
    room = Room()
    for split in splits.values():
        split.keep("memory", room)
    return experiment.task.text_encoder, splits


class Budget:
    """Processor time of this process, its children and those that it continues, and the share of it that is used.

    Args:
        minutes: of it.
        max_steps: ends earlier, for trials.
    """

    def __init__(self, minutes: float, max_steps: int | None) -> None:
        self.minutes, self.max_steps, self.before = minutes, max_steps, 0.0

    def used(self) -> float:
        """Minutes."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return self.before + (time.process_time() + children.ru_utime + children.ru_stime) / 60

    def share(self, steps: int) -> float:
        """From 0 to 1, and beyond."""
        return max(self.used() / self.minutes, steps / self.max_steps if self.max_steps else 0.0)

    def save(self, path: str) -> None:
        """Into a checkpoint."""
        Path(path).write_text(json.dumps(self.used()), encoding="utf-8")

    def load(self, path: str, end_of_epoch: bool = False) -> None:
        """From the checkpoint that the run resumes from; the time of this process is added."""
        self.before = json.loads(Path(path).read_text(encoding="utf-8"))


def error_rates(references: dict[str, str], texts: dict[str, str]) -> dict[str, float]:
    """WER and CER of texts by utterance."""
    rates: dict[str, float] = {}
    for name, metric in (("wer", WER()), ("cer", CER())):
        metric.update(list(references.values()), [texts[i] for i in references])
        rates[name] = metric.compute()
    return rates


def train(brain: Any, splits: dict[str, Split], folder: Path) -> dict[str, Any]:
    """Train, or resume, or find that this is done: steps, epochs and minutes."""
    done = folder / "trained.json"
    if done.exists():
        brain.checkpointer.recover_if_possible()
        return json.loads(done.read_text(encoding="utf-8"))
    brain.train_on(splits["train"], splits["val"])
    figures = {"steps": brain.optimizer_step, "epochs": brain.hparams.counter.current}
    figures["cpu_minutes"] = brain.clock.used()
    done.write_text(json.dumps(figures), encoding="utf-8")
    return figures


def evaluate(brain: Any, splits: dict[str, Split], folder: Path, beam: bool, arpa: Path | None) -> dict[str, Any]:
    """Figures of val and of the test split, by decoder; what there is to choose is chosen on val."""
    from benchmarks.speechbrain_ctc import greedy, searched

    def averaged(count: int) -> float:
        brain.average(count)
        posteriors = brain.hear(splits["val"])
        return error_rates(brain.references, greedy(posteriors, brain.encoder))["wer"]

    best = min(AVERAGES, key=averaged)
    brain.average(best)
    figures: dict[str, Any] = {"averaged": best}
    decoders: dict[str, Decode] = {"greedy": greedy} | ({"beam": searched} if beam else {})
    if arpa is not None:
        weights = lm_weights(brain.hear(splits["val"]), brain, arpa)
        figures |= weights
        decoders["beam_lm"] = partial(searched, kenlm_model_path=str(arpa), **weights)
    rows = []
    for name in ("val", TEST):
        posteriors = brain.hear(splits[name])
        texts = {decoder: decode(posteriors, brain.encoder) for decoder, decode in decoders.items()}
        figures[name] = {decoder: error_rates(brain.references, found) for decoder, found in texts.items()}
        for i, text in brain.references.items():
            predicted = {f"pred_text_{decoder}": found[i] for decoder, found in texts.items()}
            rows.append({"id": i, "split": name, "ground_truth": text, **predicted})
    (folder / "output.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return figures


def lm_weights(posteriors: dict[str, Tensor], brain: Any, arpa: Path) -> dict[str, float]:
    """The weights of a language model and of each word with the least WER."""
    from benchmarks.speechbrain_ctc import searched

    def wer(weights: dict[str, float]) -> float:
        texts = searched(posteriors, brain.encoder, kenlm_model_path=str(arpa), **weights)
        return error_rates(brain.references, texts)["wer"]

    return min(({"alpha": weight, "beta": score} for weight in LM_WEIGHTS for score in WORD_SCORES), key=wer)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="../shared/data/LibriSpeech", help="LibriSpeech: holds the config's parts")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run; resumed if it exists")
    parser.add_argument("--minutes", type=float, default=120.0, help="of processor time (default: 120)")
    parser.add_argument("--recipe", choices=RECIPES, default="crdnn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lr", type=float, help="highest learning rate (default: the recipe's, 0.001)")
    parser.add_argument("--batch-seconds", type=float, help="of the recordings in a batch (default: 25)")
    parser.add_argument("--arpa", type=Path, help="n-gram model in lower case for the beam search")
    parser.add_argument("--greedy", action="store_true", help="no beam search, which takes minutes")
    parser.add_argument("--max-steps", type=int, help="end earlier, to see that everything runs")
    parser.add_argument("--limit", type=int, help="utterances of each split, to see that everything runs")
    arguments = parser.parse_args(argv)
    if why := measuring.missing("speechbrain"):
        print(f"error: {why}", file=sys.stderr)
        return 2
    try:
        run(arguments)
    except HwError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Train and evaluate, and write ``figures.json`` and ``output.json``."""
    from benchmarks import speechbrain_ctc

    torch.set_num_threads(1)
    folder: Path = arguments.output
    encoder, splits = splits_of(arguments.data, arguments.limit)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    budget = Budget(arguments.minutes, arguments.max_steps)
    recipe = speechbrain_ctc.RECIPES[arguments.recipe].changed(arguments.lr, arguments.batch_seconds)
    brain = speechbrain_ctc.Peer(recipe, encoder, budget, folder, error_rates)

    def stop(*_: Any) -> None:
        brain.stopping = True

    before = signal.signal(signal.SIGTERM, stop)
    try:
        figures = train(brain, splits, folder)
    finally:
        signal.signal(signal.SIGTERM, before)
    parameters = sum(p.numel() for p in brain.hparams.model.parameters())
    figures |= {"recipe": arguments.recipe, "seed": arguments.seed, "minutes": arguments.minutes}
    figures |= {"lr": brain.hparams.schedule.base_lr, "batch_seconds": recipe.seconds, "parameters": parameters}
    figures |= {"machine": measuring.machine()}
    figures |= evaluate(brain, splits, folder, not arguments.greedy, arguments.arpa)
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    sys.exit(main())
