"""Training a recognizer with CTC, a transducer or both."""

import logging
import random
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hw_asr.confusions import Confusions, letter_name
from hw_asr.data.items import ItemMaker
from hw_asr.decoders import GREEDY, BaseDecoder, TransducerGreedyDecoder
from hw_asr.metrics import CER, WER
from hw_asr.models import Transducer
from hw_asr.watchers import Emissions, Features, LanguageModel, Posteriors, Targets
from hw_base import distributed
from hw_base.config.schema import Config
from hw_base.data.split import item_generator
from hw_base.errors import DataError
from hw_base.metrics import BaseMetric, MetricBag
from hw_base.nn.losses import SumAndCount
from hw_base.registry import TRAINERS
from hw_base.training.parts import TrainerParts
from hw_base.training.trainer import BaseTrainer
from hw_base.watch.diagnosis import Watcher
from hw_base.writers import plots
from hw_base.writers.base import Cell

log = logging.getLogger(__name__)

# Examples of an evaluation that the log shows.
_ON_CONSOLE = 2


class CorpusMetrics:
    """Every metric for every decoder: ``wer_argmax``; and ``wer``, which is that of the primary decoder.

    Args:
        metrics: prototypes, by name.
        decoders: by name, in the config's order.
        primary: name of the decoder that gives the result.
    """

    def __init__(self, metrics: dict[str, BaseMetric], decoders: dict[str, BaseDecoder], primary: str | None) -> None:
        self._bag = MetricBag(metrics, decoders, joint="_")
        self._alias = {f"{name}_{primary}": name for name in metrics} if primary is not None else {}

    def update(self, decoder: str, references: list[str | None], hypotheses: list[str]) -> None:
        """Add what one decoder made of a batch."""
        self._bag.update(references, hypotheses, groups=(decoder,))

    def compute(self, alias: bool = True) -> dict[str, float]:
        """The values over all processes; starts anew.

        Args:
            alias: also give the primary decoder's under the metric's own name.
        """
        values = self._bag.compute()
        named = {self._alias[name]: value for name, value in values.items() if name in self._alias}
        return values | named if alias else values


@TRAINERS.register()
class CTCTrainer(BaseTrainer):
    """One forward pass, one optimizer; every loss of the config is given the model's outputs and the batch.

    At each evaluation, error rates of all decoders; which letters the first decoder takes for which others; the
    predictions of some utterances, one of each voice first, whose audio and spectrograms the first evaluation gives;
    and an utterance of the training split before and after its augmentations.
    """

    default_losses = {"ctc": "CTCLoss", "transducer": "TransducerLoss"}
    cpu_keys = frozenset({"tokens", "tokens_length", "waveform", "waveform_length"})

    def __init__(self, setup: TrainerParts) -> None:
        super().__init__(setup)
        for decoder in setup.decoders.values():
            decoder.bind(setup.model)
        self.metrics = CorpusMetrics(setup.metrics, setup.decoders, setup.config.primary_decoder())
        self._shown: list[dict[str, Any]] = []
        self._confusions = Confusions()
        self._misfits: set[str] = set()

    def watchers(self) -> list[Watcher]:
        encoder = self.setup.text_encoder
        own: list[Watcher] = [Features(), Targets(), Posteriors(encoder.decode)]
        if isinstance(self.model, Transducer):
            decoder = TransducerGreedyDecoder(encoder)
            decoder.bind(self.model)
            own.append(Emissions(lambda *frames: [found[0].tokens for found in decoder(*frames)], encoder.decode))
        sections = self.setup.config.decoders
        plain = next((name for name, one in sections.items() if one.type in GREEDY), None)
        others = [name for name, one in sections.items() if one.args.get("lm")]
        metric = next(iter(self.setup.metrics), None)
        if plain is not None and metric is not None and others:
            own.append(LanguageModel(plain, others, metric))
        return [*super().watchers(), *own]

    @classmethod
    def metric_names(cls, config: Config) -> list[str]:
        return [*config.metrics, *(f"{metric}_{decoder}" for metric in config.metrics for decoder in config.decoders)]

    def losses(self, batch: dict[str, Any]) -> Iterator[tuple[str, dict[str, Tensor | SumAndCount]]]:
        batch.update(self.networks["model"](**batch))
        yield "model", {name: loss(**batch) for name, loss in self.loss_modules.items()}

    @torch.no_grad()
    def compare(self, batch: dict[str, Any]) -> list[str]:
        if not self.setup.decoders:
            return []
        self.model.eval()
        batch = self.to_device(dict(batch))
        batch.update(self.networks["model"](**batch))
        decoder = next(iter(self.setup.decoders.values()))
        found = [n_best[0].text for n_best in decoder(batch[decoder.reads].float(), batch["log_probs_length"])]
        pairs = list(zip(batch["text"], found, strict=True))[: self.section.examples]
        return [line for text, guess in pairs for line in (f"target:     {text}", f"prediction: {guess}")]

    def update_metrics(self, batch: dict[str, Any], split: str) -> None:
        texts = {}
        for name, decoder in self.setup.decoders.items():
            found = decoder(batch[decoder.reads].float(), batch["log_probs_length"])
            texts[name] = [n_best[0].text for n_best in found]
            self.metrics.update(name, batch["text"], texts[name])
        if texts and self.section.examples:
            self._confusions.update(batch["text"], next(iter(texts.values())))
        for i in range(len(batch["text"])):
            if self.shows(split, batch["utterance_id"][i]):
                self._keep(batch, i, {name: hypotheses[i] for name, hypotheses in texts.items()})

    def _keep(self, batch: dict[str, Any], i: int, texts: dict[str, str]) -> None:
        frames, samples = int(batch["spectrogram_length"][i]), int(batch["waveform_length"][i])
        example = {
            "id": batch["utterance_id"][i],
            "speaker": batch["speaker"][i],
            "text": batch["text"][i],
            "predictions": texts,
            "blank_fraction": _blank_fraction(batch["log_probs"][i, : int(batch["log_probs_length"][i])]),
            "spectrogram": batch["spectrogram"][i, :, :frames].cpu(),
            "waveform": batch["waveform"][i, :samples].cpu(),
        }
        self._shown.append(example)

    def compute_metrics(self, split: str) -> dict[str, float]:
        shown = [example for part in distributed.gather(self._shown) for example in part]
        self._show(split, sorted(shown, key=lambda example: str(example["id"])))
        self._shown = []
        self._show_confusions(split)
        if split == self.setup.config.evaluation_splits()[0]:
            self._show_augmentations()
        return self.metrics.compute()

    def _show(self, split: str, shown: list[dict[str, Any]]) -> None:
        """Give the writers a table of predictions, and once a run the audio and spectrogram of each example."""
        if not shown or not distributed.is_main():
            return
        for example in shown[:_ON_CONSOLE]:
            log.info("  %s: %r", example["id"], example["text"])
            prediction = next(iter(example["predictions"].values()), None)  # a training needs no decoder
            log.info("  recognized, blanks in %.0f %% of the frames: %r", 100 * example["blank_fraction"], prediction)
        rows = []
        for example in shown:
            for decoder, text in example["predictions"].items():
                wer, cer = WER(), CER()
                wer.update([example["text"]], [text])
                cer.update([example["text"]], [text])
                rows.append(
                    [example["id"], decoder, example["text"], text, round(wer.compute(), 4), round(cer.compute(), 4)]
                )
        writers = self.setup.writers
        if rows:
            columns = ["id", "decoder", "target", "prediction", "wer", "cer"]
            writers.table(f"{split}/predictions", columns, rows, self.step)
        features = self.setup.config.features.args
        seconds = features["hop_length"] / features["sample_rate"]
        for example in shown if self.shows_recordings() else ():
            name = self.example_name(split, example["speaker"], example["id"])
            text = example["text"] or ""
            writers.audio(f"{name}/recorded", example["waveform"], features["sample_rate"], self.step, text)
            picture = plots.spectrogram_image(example["spectrogram"], text, seconds, "mel band")
            writers.image(f"{name}/spectrogram", picture, self.step, text)

    def _show_confusions(self, split: str) -> None:
        """Give the writers which letters were confused with which others, as a picture and as a table."""
        confusions = self._confusions.gathered()
        if not confusions.counts or not distributed.is_main():
            return
        fractions, targets, predictions = confusions.matrix()
        rows = [letter_name(letter, "inserted") for letter in targets]
        columns = [letter_name(letter, "deleted") for letter in predictions]
        title = "what became of each letter, %"
        picture = plots.matrix_image(fractions, rows, columns, title, "target", "prediction")
        caption = "the fraction of each target letter that was recognized as the letter of the column"
        self.setup.writers.image(f"{split}/confusion_matrix", picture, self.step, caption)
        table: list[list[Cell]] = [
            [letter_name(a, "inserted"), letter_name(b, "deleted"), count, round(fraction, 4)]
            for a, b, count, fraction in confusions.most_frequent()
        ]
        if table:
            self.setup.writers.table(
                f"{split}/confusions", ["target", "prediction", "count", "fraction"], table, self.step
            )

    def _show_augmentations(self) -> None:
        """Give the writers a training utterance as it is and as this epoch's batch has it, both to hear and to see.

        Which one, and how it is augmented, depends on the step alone: nothing is drawn from a random state in use.
        """
        split = self.loader.split
        maker: ItemMaker = split.make_item
        if not self.section.examples or not (maker.on_waveform or maker.on_spectrogram) or not distributed.is_main():
            return
        index = random.Random(f"{split.seed}/{self.step}").randrange(len(split))
        try:
            original = split.waveform(index)
        except DataError as error:  # the loader's to report, when the utterance's turn comes
            log.debug("not shown: %s", error)
            return
        augmented, spectrogram = maker.augmented(original, item_generator(split.seed, self.epoch, index))
        writers, features = self.setup.writers, maker.features
        name, text = split.records[index].utterance_id, split.records[index].text or ""
        caption = f"{name}: {text}"
        writers.audio("train/audio_original", original, features.sample_rate, self.step, caption)
        writers.audio("train/audio_augmented", augmented, features.sample_rate, self.step, caption)
        shown = {f"{name}: original": features(original), f"{name}: augmented": spectrogram}
        picture = plots.spectrograms_image(shown, features.hop_length / features.sample_rate, "mel band")
        writers.image("train/spectrogram_augmentation", picture, self.step, caption)


def _blank_fraction(log_probs: Tensor) -> float:
    """Fraction of the frames whose best token is the blank; log_probs (T, V)."""
    return float((log_probs.argmax(-1) == 0).float().mean())
