"""The task of synthesis: defaults, checks, items, tests."""

import json
import logging
from argparse import Namespace
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from hw_base import checkpoint
from hw_base.config.resolve import build
from hw_base.config.schema import Component
from hw_base.data.dataset import Record
from hw_base.data.loader import Loader
from hw_base.data.split import Split
from hw_base.errors import CheckpointError, ConfigError, DataError
from hw_base.examinations.findings import Finding
from hw_base.nn.model import BaseModel
from hw_base.registry import FEATURES, MODELS, TASKS, derives
from hw_base.task import BaseTask
from hw_tts.data.items import TTSItemMaker, speaker_id
from hw_tts.data.phones import phones_of
from hw_tts.evaluation.synthesis import test
from hw_tts.features import statistics
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.features.cache import FeatureCache
from hw_tts.models.base import SynthesisModel
from hw_tts.speakers import table as speaker_table
from hw_tts.tasks.config import SynthesisConfig
from hw_tts.text.base import BaseTextFrontEnd
from hw_tts.trainers.synthesis import SynthesisTrainer

log = logging.getLogger(__name__)

# What the frames that a model was trained on mean.
_CONSTANTS = ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels", "f_min", "f_max", "padding", "power_offset")


@TASKS.register("tts")
class SynthesisTask(BaseTask):
    """Text to speech.

    Attributes:
        speakers: names by id, in order of first occurrence in training.
        voices: what was measured of their recordings, see `hw_tts.speakers.table.measure`.
        origin_step: see `BaseTask`; the noise of VITS2's alignment search resumes there.
    """

    config_class = SynthesisConfig
    defaults = {
        "text_encoder": "CharacterFrontEnd",
        "features": "TTSFeatures",
        "losses": {"mel": 1.0, "duration": 1.0},
        "metrics": {"mcd": "MCD", "log_f0_rmse": "LogF0RMSE", "voicing_error": "VoicingError"},
    }
    default_collate = "TTSCollate"
    default_trainer = "FastSpeechTrainer"
    model_contract = SynthesisModel

    config: SynthesisConfig
    features: TTSFeatures
    text_encoder: BaseTextFrontEnd

    def __init__(self, config: SynthesisConfig) -> None:
        super().__init__(config)
        if not isinstance(self.features, TTSFeatures):
            raise ConfigError(f"features: synthesis needs TTSFeatures, found {config.features.type}")
        if not isinstance(self.text_encoder, BaseTextFrontEnd):
            raise ConfigError(f"text_encoder: synthesis needs a text front end, found {config.text_encoder.type}")
        self.speakers: list[str] = []
        self.voices: dict[str, Tensor] = {}
        self._known: list[str] = []  # of the speakers, those that `init_from` has
        self.cache = FeatureCache(None, self.features)
        self._ids: dict[str, int] = {}

    def item_maker(self, training: bool) -> TTSItemMaker:
        model: type[SynthesisModel] = MODELS[self.config.model.type]
        with_waveform = not training or model.trains_on_waveform
        return TTSItemMaker(self.cache, self.text_encoder, self._ids, with_waveform, aligned=self._aligned())

    def _aligned(self) -> bool:
        """Whether the model is given durations; one that learns them itself is not."""
        model: type[SynthesisModel] = MODELS[self.config.model.type]
        alignment = self.config.model.args.get("alignment", model.default_alignment)
        return model.needs_durations and alignment == "given"

    def model_arguments(self) -> dict[str, Any]:
        return {
            "n_mels": self.features.n_mels,
            "n_tokens": len(self.text_encoder),
            "n_speakers": max(1, len(self.speakers)),
            "sample_rate": self.features.sample_rate,
            "hop_length": self.features.hop_length,
        }

    def fit_vocabulary(self, split: Split, origin: dict[str, Any] | None) -> None:
        """Learn symbols and speakers; those of ``init_from`` come first, so that its ids keep their meaning."""
        if origin is None and self.config.new_speakers is not None:
            raise ConfigError(
                "new_speakers: needs the checkpoint that they are added to (--set init_from=CKPT); without one, "
                "leave it out (--set new_speakers=null)"
            )
        if origin is not None:
            self._refuse_others(origin["config"])
            self.load_state_dict(origin.get("task", {}))
            self._known = list(self.speakers)
            self.origin_step += int(origin["step"])
        if origin is not None and self.config.init_text_encoder:
            self.text_encoder.load_state_dict(origin["text_encoder"])
        else:
            self.text_encoder.fit_symbols(self._symbols(split))
        found = dict.fromkeys(record.speaker for record in split.records)
        self._set_speakers([*self.speakers, *(name for name in found if name not in self._ids)])

    def initialize(self, model: BaseModel, origin: dict[str, Any], source: str) -> None:
        """Take the weights of ``init_from``, with more rows in the table of speakers where there are new ones."""
        assert isinstance(model, SynthesisModel)
        weights = origin["model"]
        if self._known and len(self.speakers) > len(self._known):
            weights = speaker_table.extended(weights, model, len(self.speakers) - len(self._known), source)
        checkpoint.load_weights(model, weights, source)

    def _refuse_others(self, origin: dict[str, Any]) -> None:
        """Raise ConfigError, with every difference, where the weights of ``init_from`` mean other symbols or frames."""
        trained = build("features", Component.model_validate(origin["features"]), FEATURES)
        there, here = trained.constants(), self.features.constants()
        problems = [
            f"features: {key} is {there[key]} there, {here[key]} here" for key in _CONSTANTS if there[key] != here[key]
        ]
        kinds = [Component.model_validate(origin["text_encoder"]).type, self.config.text_encoder.type]
        if kinds[0] != kinds[1] and self.config.init_text_encoder:
            problems.append(f"text_encoder: {kinds[0]} there, {kinds[1]} here")
        problems += differing_arguments(Component.model_validate(origin["model"]), self.config.model)
        if problems:
            raise ConfigError(
                f"init_from: {self.config.init_from} was trained on something else: {'; '.join(problems)}. Set "
                "them here to what they are there (--set KEY=VALUE)"
            )

    def _symbols(self, split: Split) -> Any:
        for record in split.records:
            try:
                phones = phones_of(record, self.text_encoder)
                symbols = [p[0] for p in phones] if phones is not None else self.text_encoder.symbols(record.text or "")
            except DataError:  # `unusable_utterances` reports it
                continue
            yield symbols

    def unknown(self, record: Record) -> list[str]:
        """Symbols that the table lacks: of the alignment, or of the text where there is none."""
        try:
            phones = phones_of(record, self.text_encoder)
            if phones is not None:
                return self.text_encoder.unknown_symbols([p[0] for p in phones])
            return self.text_encoder.unknown(record.text or "")
        except DataError:  # an alignment that fits nothing, or an unreadable text: `unusable_utterances` reports it
            return []

    def _set_speakers(self, names: list[str]) -> None:
        self.speakers = names
        self._ids.clear()
        self._ids.update({name: i for i, name in enumerate(names)})

    def unusable_utterances(self, model: BaseModel, split: Split) -> dict[str, str]:
        """Utterances of no known speaker, without an alignment that fits, with nothing to say, or with too much."""
        reasons = {}
        for record in split.records:
            try:
                reason = self._misfit(record)
            except DataError as error:
                reason = str(error)
            if reason is not None:
                reasons[record.utterance_id] = reason
        return reasons

    def _misfit(self, record: Record) -> str | None:
        speaker_id(record, self._ids)
        phones = phones_of(record, self.text_encoder)
        if phones is None and self._aligned():
            return "it has no alignment; give the dataset one, or set model.args.alignment to learned"
        if self._aligned():
            return None
        symbols = [p[0] for p in phones] if phones else self.text_encoder.symbols(record.text or "")
        tokens = self.text_encoder.encode_symbols(symbols)
        frames = int(self.features.frames(round(record.duration * self.features.sample_rate)))
        return f"its {len(tokens)} symbols do not fit into {frames} frames" if len(tokens) > frames else None

    def fill_caches(self, model: BaseModel, splits: dict[str, Split]) -> None:
        """Compute the features of all splits, in parallel."""
        for split in splits.values():
            split.leave_out(self.cache.fill(split))

    def start_training(self, model: BaseModel, loader: Loader) -> None:
        """Measure the recordings, tell a new model their statistics, and begin the rows of new speakers."""
        assert isinstance(model, SynthesisModel)
        records = loader.split.records
        self.voices |= speaker_table.measure(records, lambda record: self.cache.get(record, None))
        if self._known:
            new = self.speakers[len(self._known) :]
            if new:
                speaker_table.begin(model, self.config, self.config.new_speakers, self._known, new, self.voices, loader)
        elif model.uses_statistics:
            found = statistics.collect(self.cache.get(record, None) for record in records)
            model.set_statistics(found)
            shown = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
            log.info("statistics of training: %s", shown)

    def examine(self, trainer: Any, batch: dict[str, Any], cheap: bool) -> Iterable[Finding]:
        from hw_tts.checks.before_training import examine

        speaks = isinstance(trainer, SynthesisTrainer) and not cheap
        return examine(trainer, self, batch, trainer.vocoder if speaks else None)

    def state_dict(self) -> dict[str, Any]:
        return {"speakers": list(self.speakers), "voices": dict(self.voices), "origin_step": self.origin_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        speakers = state.get("speakers")
        if not isinstance(speakers, list):
            raise CheckpointError("the checkpoint has no table of speakers: it is not one of synthesis")
        self._set_speakers(list(speakers))
        self.voices = dict(state.get("voices", {}))
        self.origin_step = int(state.get("origin_step", 0))

    def test(self, arguments: Namespace, state: dict[str, Any], device: torch.device) -> int:
        return test(self, arguments, state, device)


def differing_arguments(there: Component, here: Component) -> list[str]:
    """A line for every argument of the model that changes what its weights mean and differs, shapes or not."""
    if not derives(here.type, there.type):
        return [f"model: {there.type} there, {here.type} here"]
    model: Any = MODELS[here.type]
    old, new = (model.complete_arguments(component.args) for component in (there, here))
    return [
        f"model.args.{key} is {json.dumps(old[key])} there, {json.dumps(new[key])} here"
        for key in new
        if key in old and key not in model.training_arguments and json.dumps(old[key]) != json.dumps(new[key])
    ]
