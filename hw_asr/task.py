"""Recognition, as the base sees it."""

from argparse import Namespace
from typing import Any

import torch

from hw_asr.inference import test
from hw_asr.items import ItemMaker
from hw_base.config import build
from hw_base.registry import AUGMENTATIONS, TASKS
from hw_base.task import BaseTask


@TASKS.register("asr")
class RecognitionTask(BaseTask):
    """Speech to text."""

    defaults = {
        "text_encoder": "CharTextEncoder",
        "features": "LogMelSpectrogram",
        "losses": {"ctc": 1.0},
        "decoders": {"argmax": "Greedy"},
        "metrics": {"wer": "WER", "cer": "CER"},
    }
    default_collate = "ASRCollate"
    default_trainer = "CTCTrainer"

    def item_maker(self, training: bool) -> ItemMaker:
        augmentations = []
        if training:
            rate = self.features.sample_rate
            for i, section in enumerate(self.config.augmentations):
                augmentations.append(build(f"augmentations.{i}", section, AUGMENTATIONS, sample_rate=rate))
        return ItemMaker(self.features, self.text_encoder, augmentations, training)

    def model_arguments(self) -> dict[str, Any]:
        return {"n_mels": self.features.n_mels, "n_tokens": len(self.text_encoder)}

    @staticmethod
    def folder_dataset(folder: str) -> dict[str, Any]:
        return {"type": "CustomDir", "args": {"root": folder}}

    def test(self, arguments: Namespace, state: dict[str, Any], device: torch.device) -> int:
        return test(self.config, arguments, state, device)
