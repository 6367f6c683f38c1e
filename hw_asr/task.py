"""The task of recognition: defaults, checks, items, tests."""

from argparse import Namespace
from collections.abc import Iterable
from typing import Any

import torch

from hw_asr.augmentations.base import BaseAugmentation
from hw_asr.data.items import ItemMaker
from hw_asr.decoders.base import BaseDecoder
from hw_asr.decoders.outputs import output_read
from hw_asr.evaluation.predictions import test
from hw_asr.losses.ctc import frames_needed
from hw_asr.models.base import CTCModel
from hw_asr.models.transducer import Transducer
from hw_asr.recognizer import CTCRecognizer
from hw_base.config.resolve import build
from hw_base.config.schema import Config
from hw_base.data.split import Split
from hw_base.examinations.findings import Finding
from hw_base.nn.model import BaseModel
from hw_base.registry import AUGMENTATIONS, MODELS, TASKS, lacking
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
    model_contract = CTCModel

    @classmethod
    def _unfinished(cls, config: Config) -> dict[str, str]:
        found = super()._unfinished(config)
        for i, section in enumerate(config.augmentations):
            problem = lacking(AUGMENTATIONS[section.type], BaseAugmentation)
            if problem is not None:
                found[f"augmentations.{i}.type"] = problem
        return found

    @classmethod
    def check(cls, config: Config) -> dict[str, str]:
        errors = super().check(config)
        kinds = {section.type for section in config.losses.values()}
        if issubclass(MODELS[config.model.type], Transducer):
            if "TransducerLoss" not in kinds or "CTCLoss" not in kinds:
                errors["losses"] = (
                    'a Transducer is trained with both its losses: {"transducer": 1.0, "ctc": 0.3}; its encoder learns '
                    "faster with CTC, whose posteriors watchers and long recordings need"
                )
            return errors
        for name, section in config.losses.items():
            if section.type == "TransducerLoss":
                errors[f"losses.{name}"] = f"TransducerLoss needs model.type Transducer, found {config.model.type}"
        for name, decoder in config.decoders.items():
            if output_read(decoder.type) != BaseDecoder.reads:
                errors[f"decoders.{name}.type"] = (
                    f"{decoder.type} decodes a Transducer, the model is a {config.model.type}"
                )
        return errors

    def item_maker(self, training: bool) -> ItemMaker:
        augmentations = []
        if training:
            rate = self.features.sample_rate
            for i, section in enumerate(self.config.augmentations):
                augmentations.append(build(f"augmentations.{i}", section, AUGMENTATIONS, sample_rate=rate))
        return ItemMaker(self.features, self.text_encoder, augmentations)

    def model_arguments(self) -> dict[str, Any]:
        return {"n_mels": self.features.n_mels, "n_tokens": len(self.text_encoder)}

    def unusable_utterances(self, model: BaseModel, split: Split) -> dict[str, str]:
        """Training transcripts that no loss can be computed of, or that would teach silence: id -> reason.

        CTC's loss is infinite where a transcript needs more frames than the model gives for its audio; one of which the
        vocabulary can spell nothing would teach to stay silent.
        """
        if split.evaluation:  # where every utterance counts
            return {}
        assert isinstance(model, CTCModel)
        samples = torch.tensor([round(duration * split.sample_rate) for duration in split.durations])
        frames = model.output_lengths(self.features.frames(samples)).tolist()
        reasons = {}
        for record, available in zip(split.records, frames, strict=True):
            tokens = torch.tensor([self.text_encoder.encode(record.text or "")], dtype=torch.int64)
            if not tokens.numel():
                reasons[record.utterance_id] = (
                    f"the transcript {record.text!r} has no letter in it that the vocabulary knows"
                )
                continue
            needed = int(frames_needed(tokens, torch.tensor([tokens.shape[1]])))
            if needed > available:
                reasons[record.utterance_id] = (
                    f"the transcript needs {needed} frames and the model gives {available}; correct it, or reduce the "
                    "model's stride"
                )
        return reasons

    def examine(self, trainer: Any, batch: dict[str, Any], cheap: bool) -> Iterable[Finding]:
        from hw_asr.checks.before_training import examine

        return examine(trainer, batch, cheap)

    def recognizer(self, model: BaseModel, device: torch.device) -> CTCRecognizer:
        assert isinstance(model, CTCModel)
        return CTCRecognizer(model, self.features, self.text_encoder, self.config, device)

    def test(self, arguments: Namespace, state: dict[str, Any], device: torch.device) -> int:
        return test(self, arguments, state, device)
