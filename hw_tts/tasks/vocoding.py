"""The task of vocoding: spectrograms to waveforms, no text needed."""

from argparse import Namespace
from typing import Any

import torch

from hw_base.config.schema import Config
from hw_base.errors import ConfigError
from hw_base.registry import TASKS
from hw_base.task import BaseTask
from hw_tts.data.vocoder_items import VocoderItemMaker
from hw_tts.evaluation.vocoder import test
from hw_tts.models.hifigan.model import HiFiGAN
from hw_tts.tasks.config import VocoderConfig
from hw_tts.trainers.vocoder import VocoderTrainer


@TASKS.register("vocoder")
class VocoderTask(BaseTask):
    """Log-mel spectrogram to waveform."""

    config_class = VocoderConfig
    defaults = {
        "text_encoder": "NoText",
        "features": "TTSFeatures",
        "losses": {"adversarial": 1.0, "feature_matching": 1.0, "mel": 45.0},
        "metrics": {"log_mel_l1": "LogMelL1", "stft": "MultiResolutionSTFT"},
    }
    default_collate = "TTSCollate"
    default_trainer = "VocoderTrainer"
    model_contract = HiFiGAN
    needs_text = False

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        needs = {"normalize": ("none",), "padding": ("center", "same")}
        for name, allowed in needs.items():
            found = self.features.constants()[name]
            if found not in allowed:
                raise ConfigError(
                    f"features.args.{name}: a vocoder needs {' or '.join(map(repr, allowed))}, found {found!r}"
                )

    def item_maker(self, training: bool) -> VocoderItemMaker:
        arguments = self.config.trainer.args
        return VocoderItemMaker(self.features, arguments["segment_frames"] if training else None, arguments.get("mels"))

    def model_arguments(self) -> dict[str, Any]:
        return {"n_mels": self.features.n_mels, "hop_length": self.features.hop_length}

    @classmethod
    def check(cls, config: Config) -> dict[str, str]:
        errors = super().check(config)
        known = VocoderTrainer.default_losses
        for name, loss in config.losses.items():
            if name not in known:
                errors[f"losses.{name}"] = f"a vocoder has no loss of this name. Known: {', '.join(known)}."
            elif loss.type != known[name]:
                errors[f"losses.{name}.type"] = f"must be {known[name]}, found {loss.type}"
        if "adversarial" not in config.losses:
            errors["losses.adversarial"] = "required, but missing: the discriminators learn from it"
        return errors

    def test(self, arguments: Namespace, state: dict[str, Any], device: torch.device) -> int:
        return test(self, arguments, state, device)
