"""Training VITS2: duration discriminator, discriminator, generator, in this order, from one pass of the generator."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hw_base.errors import ConfigError
from hw_base.nn.losses import SumAndCount
from hw_base.registry import TRAINERS
from hw_base.training.parts import TrainerParts
from hw_base.watch.diagnosis import Watcher
from hw_base.watch.run import OneLoss
from hw_tts.losses.adversarial import AdversarialLoss
from hw_tts.losses.vits2 import DurationAdversarialLoss
from hw_tts.models.vits2.decoder import MultiBandDecoder
from hw_tts.models.vits2.model import VITS2
from hw_tts.trainers.synthesis import SynthesisTrainer
from hw_tts.watchers import Adversaries

Losses = dict[str, Tensor | SumAndCount]


@TRAINERS.register(before="AdversarialTrainer")
class VITS2Trainer(SynthesisTrainer):
    """Three optimizers; a loss that the config does not name costs nothing.

    Losses by name: ``mel``, ``kl`` and ``duration`` of the variational autoencoder; ``subband_stft`` of multi-band
    decoders; ``adversarial`` and ``feature_matching``, which bring in the discriminator; ``adversarial_duration``,
    which adds the duration discriminator. A discriminator's own loss is logged under the adversarial one's name in
    its own group.
    """

    model: VITS2
    one_batch_metric = "mel"  # discriminators see to it that the total does not fall
    one_batch_ratio = 0.5
    default_losses = {
        "mel": "WaveformMelLoss",
        "kl": "KLLoss",
        "duration": "LogDurationLoss",
        "subband_stft": "SubbandSTFTLoss",
        "adversarial": "AdversarialLoss",
        "feature_matching": "FeatureMatchingLoss",
        "adversarial_duration": "DurationAdversarialLoss",
    }

    def __init__(self, setup: TrainerParts) -> None:
        super().__init__(setup)
        self._origin_step = setup.task.origin_step if setup.task is not None else 0
        self._adversarial: AdversarialLoss | None = setup.losses.get("adversarial")  # type: ignore[assignment]
        self._adversarial_duration: DurationAdversarialLoss | None = setup.losses.get(  # type: ignore[assignment]
            "adversarial_duration"
        )
        if "feature_matching" in setup.losses and self._adversarial is None:
            raise ConfigError("losses.feature_matching: needs losses.adversarial, whose discriminator it looks into")
        decoder = self.model.generator.dec
        self._bank = decoder.filter_bank if isinstance(decoder, MultiBandDecoder) else None
        if "subband_stft" in setup.losses and self._bank is None:
            raise ConfigError(
                "losses.subband_stft: only the decoder multi_band_istft has sub-bands; leave the loss out"
            )
        if "mel" in setup.losses:
            setup.losses["mel"].prepare(self.features)  # type: ignore[operator]
            setup.losses["mel"].to(self.device)

    def watchers(self) -> list[Watcher]:
        weights = {name: self.weights.weight(name) for name in self.loss_modules}
        return [*super().watchers(), Adversaries(), OneLoss(weights, "generator")]

    def losses(self, batch: dict[str, Any]) -> Iterator[tuple[str, Losses]]:
        self.model.set_step(self.step, self._origin_step)
        batch["waveform"] = batch["waveform"].to(self.device, non_blocking=True)
        outputs = self.networks["generator"](**batch)
        batch.update(outputs)
        real, fake = outputs["waveform_segment"], outputs["waveform_predicted"].float()
        if self._adversarial_duration is not None:
            yield "duration_discriminator", {"adversarial_duration": self._score_durations(outputs)}
        if self._adversarial is not None:
            discriminator = self.networks["discriminator"]
            scores, _ = discriminator(torch.cat([real, fake.detach()]))
            halves = [score.chunk(2) for score in scores]
            yield "discriminator", {"adversarial": self._adversarial.discriminator(*zip(*halves, strict=True))}
        yield "generator", self._generator_losses(outputs, real, fake)

    def _score_durations(self, outputs: dict[str, Tensor]) -> SumAndCount:
        assert self._adversarial_duration is not None
        mask = outputs["tokens_mask"]
        scores = self.networks["duration_discriminator"](
            outputs["hidden"].detach(),
            mask,
            outputs["log_durations_target"].detach(),
            outputs["log_durations_predicted"].detach(),
        )
        return self._adversarial_duration.discriminator(scores, mask)

    def _generator_losses(self, outputs: dict[str, Tensor], real: Tensor, fake: Tensor) -> Losses:
        modules = self.loss_modules
        losses: Losses = {}
        if "mel" in modules:
            losses["mel"] = modules["mel"](real, fake)
        for name in ("kl", "duration"):
            if name in modules:
                losses[name] = modules[name](**outputs)
        if "subband_stft" in modules and self._bank is not None:
            losses["subband_stft"] = modules["subband_stft"](self._bank.analysis(real), outputs["subbands_predicted"])
        if self._adversarial is not None:
            scores, maps = self.networks["discriminator"](torch.cat([real, fake]))
            losses["adversarial"] = self._adversarial([score.chunk(2)[1] for score in scores])
            if "feature_matching" in modules:
                halves = [[layer.chunk(2) for layer in discriminator] for discriminator in maps]
                sides = [[[pair[side] for pair in discriminator] for discriminator in halves] for side in (0, 1)]
                losses["feature_matching"] = modules["feature_matching"](*sides)
        if self._adversarial_duration is not None:
            scores = self.networks["duration_discriminator"](
                outputs["hidden"], outputs["tokens_mask"], outputs["log_durations_predicted"]
            )
            losses["adversarial_duration"] = self._adversarial_duration(scores[0], outputs["tokens_mask"])
        return losses
