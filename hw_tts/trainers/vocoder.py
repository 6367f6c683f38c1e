"""Training a vocoder against its discriminators, with evaluations of its speech."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor

from hw_base import distributed
from hw_base.config.schema import PathText
from hw_base.metrics import MetricBag
from hw_base.nn.losses import SumAndCount
from hw_base.registry import TRAINERS
from hw_base.training.parts import TrainerParts
from hw_base.training.trainer import BaseTrainer
from hw_base.watch.diagnosis import Watcher
from hw_base.watch.run import OneLoss
from hw_base.writers import plots
from hw_tts.evaluation.scores import vocoder_pairs
from hw_tts.losses.adversarial import WaveformMelLoss
from hw_tts.metrics.base import Pair
from hw_tts.models.hifigan.generator import vocode
from hw_tts.watchers import Adversaries


@TRAINERS.register()
class VocoderTrainer(BaseTrainer):
    """HiFi-GAN's two steps: the discriminators, then the generator (Kong, Kim and Bae 2020, section 2.4).

    Training sees pieces of a few thousand samples, evaluations whole utterances.

    Args:
        segment_frames: length of the pieces.
        mels: folder of predicted spectrograms ``<id>.npy`` or ``<id>.pt`` for fine-tuning, made with the recordings'
            timing; None takes those of the recordings.
    """

    one_batch_metric = "mel"  # discriminators see to it that the total does not fall
    one_batch_ratio = 0.5
    default_losses = {
        "adversarial": "AdversarialLoss",
        "feature_matching": "FeatureMatchingLoss",
        "mel": "WaveformMelLoss",
    }
    # Lengths are looked at to group utterances; reading them from an accelerator would wait for it.
    cpu_keys = frozenset({"waveform_length", "spectrogram_length"})

    def __init__(self, setup: TrainerParts, segment_frames: PositiveInt = 32, mels: PathText | None = None) -> None:
        super().__init__(setup)
        assert setup.task is not None
        self.features = setup.task.features
        self.scores = MetricBag(setup.metrics)
        self._shown: list[Pair] = []
        for loss in self.loss_modules.values():
            if isinstance(loss, WaveformMelLoss):
                loss.prepare(self.features)
                loss.to(self.device)

    def watchers(self) -> list[Watcher]:
        weights = {name: self.weights.weight(name) for name in self.loss_modules}
        return [*super().watchers(), Adversaries(), OneLoss(weights, "generator")]

    def losses(self, batch: dict[str, Any]) -> Iterator[tuple[str, dict[str, Tensor | SumAndCount]]]:
        modules: dict[str, Any] = self.loss_modules
        discriminator = self.networks["discriminator"]
        length = batch["spectrogram_length"].tolist()
        fake = vocode(self.networks["generator"], batch["spectrogram"], length, self.features.hop_length)
        real = _fitted(batch["waveform"], fake.shape[1])
        batch["waveform_predicted"] = fake
        real_scores, _ = discriminator(real.unsqueeze(1))
        fake_scores, _ = discriminator(fake.detach().unsqueeze(1))
        yield "discriminator", {"adversarial": modules["adversarial"].discriminator(real_scores, fake_scores)}

        values: dict[str, Tensor | SumAndCount] = {}
        fake_scores, fake_maps = discriminator(fake.unsqueeze(1))
        values["adversarial"] = modules["adversarial"](fake_scores)
        if "feature_matching" in modules:
            with torch.no_grad():
                _, real_maps = discriminator(real.unsqueeze(1))
            values["feature_matching"] = modules["feature_matching"](real_maps, fake_maps)
        if "mel" in modules:
            n_samples = batch["waveform_length"].clamp(max=fake.shape[1])
            values["mel"] = modules["mel"](real, fake, n_samples)
        yield "generator", values

    def update_metrics(self, batch: dict[str, Any], split: str) -> None:
        for pair in vocoder_pairs(batch, batch["waveform_predicted"], self.features.sample_rate):
            self.scores.update(pair)
            if self.shows(split, pair.utterance_id):
                self._shown.append(pair)

    def compute_metrics(self, split: str) -> dict[str, float]:
        shown = [pair for part in distributed.gather(self._shown) for pair in part]
        for pair in sorted(shown, key=lambda pair: pair.utterance_id) if distributed.is_main() else ():
            self._show(self.example_name(split, pair.speaker, pair.utterance_id), pair)
        self._shown = []
        return self.scores.compute()

    def _show(self, name: str, pair: Pair) -> None:
        """Give the writers the audio and the spectrograms of one utterance."""
        writers, rate = self.setup.writers, self.features.sample_rate
        writers.audio(f"{name}/synthesized", pair.synthesized, rate, self.step, pair.text)
        if self.shows_recordings():
            writers.audio(f"{name}/recorded", pair.reference, rate, self.step, pair.text)
        features = copy.deepcopy(self.features).cpu()
        if len(pair.reference) >= features.min_samples:
            pictures = {
                f"vocoder: {pair.text or pair.utterance_id}": features(pair.synthesized),
                "recorded": features(pair.reference),
            }
            picture = plots.spectrograms_image(pictures, features.hop_length / rate, "mel band")
            writers.image(f"{name}/spectrogram", picture, self.step, pair.text)


def _fitted(waveform: Tensor, n_samples: int) -> Tensor:
    """Cut, or padded with silence: (B, n_samples)."""
    return F.pad(waveform[:, :n_samples], (0, max(0, n_samples - waveform.shape[1])))
