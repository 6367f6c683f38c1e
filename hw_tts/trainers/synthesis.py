"""Training acoustic models, with evaluations of their speech."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hw_base import distributed
from hw_base.config.schema import PathText
from hw_base.nn.losses import SumAndCount
from hw_base.registry import TRAINERS
from hw_base.training.parts import TrainerParts
from hw_base.training.trainer import BaseTrainer
from hw_base.watch.diagnosis import Watcher
from hw_base.watch.run import OneLoss
from hw_tts.evaluation.pictures import Spoken, pictures_of, spoken
from hw_tts.evaluation.scores import Scores, matched_waveforms, pairs_of, speak_batch, speakers_of, vocoder_for
from hw_tts.models.base import SynthesisModel
from hw_tts.watchers import Alignment, Variances


class SynthesisTrainer(BaseTrainer):
    """What the trainers of all synthesizers share: at each evaluation the split's texts are spoken and measured.

    The same utterances are shown at every stage of training: audio, the spectrogram beside the recording's with the
    durations and the pitch of both, and the alignment of the recording.

    Args:
        vocoder: checkpoint of a HiFiGAN for the audio of evaluations; None is Griffin-Lim.
    """

    model: SynthesisModel
    cpu_keys = frozenset({"waveform", "waveform_length"})

    def __init__(self, setup: TrainerParts, vocoder: PathText | None = None) -> None:
        super().__init__(setup)
        task: Any = setup.task
        self.features, self.front_end = task.features, task.text_encoder
        self.vocoder = vocoder_for(self.model, vocoder, self.features, self.device)
        evaluated = [setup.loaders[name].split for name in setup.config.evaluation_splits()]
        self.scores = Scores(setup.metrics, speakers_of(*evaluated))
        self._shown: list[Spoken] = []

    def watchers(self) -> list[Watcher]:
        own: list[Watcher] = [Alignment(), Variances()]
        if len(self.optimizations) == 1:
            own.append(OneLoss({name: self.weights.weight(name) for name in self.loss_modules}))
        return [*super().watchers(), *own]

    def update_metrics(self, batch: dict[str, Any], split: str) -> None:
        with torch.autocast(self.device.type, self.setup.amp_dtype, enabled=self.setup.amp_dtype is not None):
            waveforms = speak_batch(self.model, batch, self.vocoder)
        rate = self.features.sample_rate
        pairs = pairs_of(batch, waveforms, rate)
        self.scores.update(pairs)
        for i, pair in enumerate(pairs):
            if self.shows(split, pair.utterance_id):
                self._shown.append(spoken(batch, i, pair, self.front_end))
        if self.scores.wants_matched():
            self.scores.update(pairs_of(batch, matched_waveforms(batch, self.vocoder), rate, matched=True))

    def compute_metrics(self, split: str) -> dict[str, float]:
        shown = [one for part in distributed.gather(self._shown) for one in part]
        self._show(split, sorted(shown, key=lambda one: one.pair.utterance_id))
        self._shown = []
        return self.scores.compute()

    def _show(self, split: str, shown: list[Spoken]) -> None:
        """Give the writers audio and pictures of the examples, and a table of their lengths."""
        if not distributed.is_main():
            return
        writers, rate = self.setup.writers, self.features.sample_rate
        rows = []
        for one in shown:
            pair = one.pair
            name = self.example_name(split, pair.speaker, pair.utterance_id)
            writers.audio(f"{name}/synthesized", pair.synthesized, rate, self.step, pair.text)
            if self.shows_recordings():
                writers.audio(f"{name}/recorded", pair.reference, rate, self.step, pair.text)
            for what, picture in pictures_of(one, self.features).items():
                writers.image(f"{name}/{what}", picture, self.step, pair.text)
            lengths = [len(pair.synthesized) / rate, len(pair.reference) / rate]
            rows.append([pair.utterance_id, pair.speaker, pair.text, *(round(length, 3) for length in lengths)])
        if rows:
            columns = ["id", "speaker", "text", "seconds", "recorded seconds"]
            writers.table(f"{split}/synthesis", columns, rows, self.step)


@TRAINERS.register()
class FastSpeechTrainer(SynthesisTrainer):
    """One forward pass, one optimizer; every loss of the config is given the model's outputs and the batch.

    Args:
        vocoder: checkpoint of a HiFiGAN for the audio of evaluations; None is Griffin-Lim.
    """

    default_losses = {
        "mel": "SpectrogramLoss",
        "duration": "DurationLoss",
        "pitch": "PitchLoss",
        "energy": "EnergyLoss",
        "alignment": "ForwardSumLoss",
        "binarization": "BinarizationLoss",
    }

    def __init__(self, setup: TrainerParts, vocoder: PathText | None = None) -> None:
        super().__init__(setup, vocoder)

    def losses(self, batch: dict[str, Any]) -> Iterator[tuple[str, dict[str, Tensor | SumAndCount]]]:
        batch.update(self.networks["model"](**batch))
        yield "model", {name: loss(**batch) for name, loss in self.loss_modules.items()}
