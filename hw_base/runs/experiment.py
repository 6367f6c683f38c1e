"""Builds everything a config names, in order: text encoder, splits, loaders, model, optimizations, trainer."""

import logging
from pathlib import Path
from typing import Any

import torch

from hw_base import checkpoint, distributed, registry, seeding, trained
from hw_base.config.resolve import as_dict, build
from hw_base.config.schema import TEST_PREFIX, TRAIN_SPLIT, Config, OptimizerSection
from hw_base.data.cache import Room
from hw_base.data.dataset import BaseDataset
from hw_base.data.loader import Loader, build_loader
from hw_base.data.split import Limits, Split, report_shared
from hw_base.errors import CheckpointError, ConfigError
from hw_base.nn.model import BaseModel
from hw_base.registry import derives, suggest
from hw_base.task import PLATEAU, BaseTask
from hw_base.training import freezing
from hw_base.training.machine import faster_precision, n_workers
from hw_base.training.optimization import Optimization, trained_names
from hw_base.training.parts import TrainerParts
from hw_base.training.trainer import BaseTrainer
from hw_base.writers import JsonlWriter, MultiWriter

log = logging.getLogger(__name__)

# Of what `trainer.amp` may be, what is no rule.
_CHOICES = ("off", "bf16", "fp16")


def datasets_of(config: Config, split: str) -> list[BaseDataset]:
    """The datasets of a split, built.

    Raises:
        ConfigError: there is no such split, or a dataset refuses its arguments.
    """
    if split not in config.data:
        raise ConfigError(f"--split {split}: the config has no such split. {suggest(split, list(config.data))}")
    where = f"data.{split}.datasets"
    sections = config.data[split].datasets
    return [build(f"{where}.{i}", section, registry.DATASETS) for i, section in enumerate(sections)]


class Experiment:
    """The parts of one config.

    Args:
        config: checked.
        device: where the model goes.
        state: a checkpoint's, whose text encoder and weights are taken.
        source: where that lies, for messages.
        task: of the config, new; built here if not given.

    Attributes:
        task: what the config's ``task`` names.
    """

    def __init__(
        self,
        config: Config,
        device: torch.device,
        state: dict[str, Any] | None = None,
        source: str | Path = "checkpoint",
        task: BaseTask | None = None,
    ) -> None:
        self.config, self.device, self.state, self.source = config, device, state, source
        seeding.seed_all(config.seed)
        self.task: BaseTask = trained.restore_task(config, state, source, task)
        self.origin = None
        if config.init_from is None and (config.init_anew or not config.init_text_encoder):
            key = "init_anew" if config.init_anew else "init_text_encoder"
            raise ConfigError(f"{key}: says what is not taken from init_from, and there is no init_from")
        if state is None and config.init_from is not None:
            self.origin = trained.read(config.init_from)

    def split(self, name: str, evaluation: bool, needs_text: bool = True) -> Split:
        """One split, read from its datasets, filtered, reported."""
        datasets = datasets_of(self.config, name)
        section = self.config.data[name]
        limits = Limits(section.min_seconds, section.max_seconds, section.max_text_length, section.limit)
        split = Split(
            name,
            datasets,
            self.task.item_maker(training=not evaluation),
            self.task.features.sample_rate,
            limits,
            seed=self.config.seed,
            on_bad_data=section.on_bad_data,
            evaluation=evaluation,
            needs_text=needs_text and self.task.needs_text,
        )
        for line in split.report:
            log.info("%s", line)
        return split

    def training_texts(self, name: str = TRAIN_SPLIT) -> list[str]:
        """The transcripts of a split, for what is trained on text alone: a vocabulary, a language model.

        Raises:
            ConfigError: there is no such split, or it is kept for the test.
        """
        if name.startswith(TEST_PREFIX) and name in self.config.data:
            raise ConfigError(f"--split {name}: is kept for the test; what is trained on it would make it worthless")
        return [record.text for record in self.split(name, evaluation=name != TRAIN_SPLIT).records if record.text]

    def loader(self, split: Split) -> Loader:
        """Batches of a split, this process's share of them."""
        section = self.config.data[split.name]
        loader = build_loader(
            split,
            section.batch_size,
            build(f"data.{split.name}.collate", section.collate, registry.COLLATES),
            workers=n_workers(section.workers, self.device),
            max_batch_seconds=section.max_batch_seconds,
            jitter=section.jitter,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
            pin_memory=self.device.type == "cuda",
        )
        log.info("%s", loader.sampler.report())
        return loader

    def model(self) -> BaseModel:
        """The model on its device, with the weights of the checkpoint or of ``init_from``, if any."""
        if self.state is not None:
            if (found := _type_of(self.state)) != self.config.model.type:
                raise CheckpointError(
                    f"{self.source}: holds a {found}, the config's model is a {self.config.model.type}"
                )
            trained.refuse_larger(self.config, self.task, self.state["model"], self.source)
        model: BaseModel = build("model", self.config.model, registry.MODELS, **self.task.model_arguments())
        if self.origin is not None:
            with checkpoint.restoring(str(self.config.init_from)):
                origin = self._without_anew(self._completed(self.origin, model), model)
                self.task.initialize(model, origin, str(self.config.init_from))
        elif self.state is not None:
            checkpoint.load_weights(model, self.state["model"], self.source)
        return model.to(self.device)

    def _completed(self, origin: dict[str, Any], model: BaseModel) -> dict[str, Any]:
        """The checkpoint of ``init_from``; what the model has besides is as the model made it.

        A model derived from the checkpoint's may have more, and one that has the checkpoint's for a part.
        """
        own, found, parts = self.config.model.type, _type_of(origin), model.parts_by_type()
        if found == own:
            return origin
        if derives(own, found):
            prefix = ""
        elif fitting := [part for kind, part in parts.items() if derives(kind, found)]:
            prefix = f"{fitting[0]}."
        else:
            besides = "".join(f", its {part} a {kind}" for kind, part in parts.items())
            raise CheckpointError(f"{self.config.init_from}: holds a {found}, the config's model is a {own}{besides}")
        weights = {prefix + name: value for name, value in origin["model"].items()}
        added = {
            name: value
            for name, value in model.state_dict().items()
            if name not in weights and not (prefix and name.startswith(prefix))
        }
        log.info("init_from: of %s, %s start anew", own, ", ".join(added) or "no parameters")
        return {**origin, "model": {**weights, **added}}

    def _without_anew(self, origin: dict[str, Any], model: BaseModel) -> dict[str, Any]:
        """The checkpoint, but what ``init_anew`` names is as the model made it."""
        made = model.state_dict()
        names = freezing.matching("init_anew", list(made), self.config.init_anew)
        return {**origin, "model": {**origin["model"], **{name: made[name] for name in names}}}

    def trainer(self, run_dir: Path | None, schedules: bool = True) -> BaseTrainer:
        """The trainer with everything it works with.

        Args:
            run_dir: where it writes; None writes nothing.
            schedules: whether learning rates follow the config's schedules, or stay.
        """
        config = self.config
        if TRAIN_SPLIT not in config.data:
            raise ConfigError(f"data.{TRAIN_SPLIT}: required for training, but missing")
        splits = {TRAIN_SPLIT: self.split(TRAIN_SPLIT, evaluation=False)}
        if self.state is None:
            self.task.fit_vocabulary(splits[TRAIN_SPLIT], self.origin)
        splits |= {name: self.split(name, evaluation=True) for name in config.evaluation_splits()}
        for split in splits.values():
            self.report_unknown(split)
            if split.evaluation:
                report_shared(split, splits[TRAIN_SPLIT])
        model = self.model()
        for split in splits.values():
            split.leave_out(self.task.unusable_utterances(model, split))
        self.task.fill_caches(model, splits)
        room = Room(distributed.local_world_size())
        for name, split in splits.items():
            mode = config.data[name].cache
            if mode != "none":
                split.keep(mode, room)
        loaders = {name: self.loader(split) for name, split in splits.items()}
        if self.state is None:
            self.task.start_training(model, loaders[TRAIN_SPLIT])
        log.info("%s", model.summary())
        config = self._with_known_precision(config)
        amp_dtype = precision(config.trainer.amp, self.device)
        log.info("%s", describe_device(self.device, amp_dtype))
        optimizations = self._optimizations(model, len(loaders[TRAIN_SPLIT]), amp_dtype, schedules)
        if self.origin is not None and config.init_optimizers:
            self._load_moments(model, optimizations, self.origin)
        setup = TrainerParts(
            config=config,
            model=model,
            text_encoder=self.task.text_encoder,
            loaders=loaders,
            losses={
                name: build(f"losses.{name}", loss, registry.LOSSES).to(self.device)
                for name, loss in config.losses.items()
            },
            optimizations=optimizations,
            device=self.device,
            writers=MultiWriter([]),
            decoders=self.decoders(),
            metrics={name: build(f"metrics.{name}", m, registry.METRICS) for name, m in config.metrics.items()},
            amp_dtype=amp_dtype,
            run_dir=run_dir,
            task=self.task,
        )
        trainer: BaseTrainer = build("trainer", config.trainer, registry.TRAINERS, setup=setup)
        if config.trainer.amp == "measured" and self.device.type == "cpu":
            self._measure_precision(trainer)
        self.config = setup.config
        setup.writers = self._writers(run_dir if distributed.is_main() else None)  # which record the final config
        return trainer

    def _with_known_precision(self, config: Config) -> Config:
        """Of a run that is resumed, what was measured when it began."""
        saved = self.state["config"].get("trainer", {}).get("amp") if self.state is not None else None
        return _with_amp(config, saved) if config.trainer.amp == "measured" and saved in _CHOICES else config

    def _measure_precision(self, trainer: BaseTrainer) -> None:
        """Give a new run the faster precision; from here on its config names it."""
        setup = trainer.setup
        choice, sentence = faster_precision(trainer, next(trainer.loader.here(1)))
        setup.config, setup.amp_dtype = _with_amp(setup.config, choice), precision(choice, self.device)
        log.info("precision: %s (trainer.amp: measured); this run has trainer.amp: %s", sentence, choice)

    def decoders(self) -> dict[str, Any]:
        """The decoders by name."""
        encoder = self.task.text_encoder
        return {
            name: build(f"decoders.{name}", decoder, registry.DECODERS, text_encoder=encoder)
            for name, decoder in self.config.decoders.items()
        }

    def _optimizations(
        self, model: BaseModel, batches: int, amp_dtype: torch.dtype | None, schedules: bool
    ) -> dict[str, Optimization]:
        section = self.config.trainer
        steps = section.max_steps or (section.epochs or 0) * batches
        lengths = {"step": steps // section.accumulate, "epoch": -(-steps // batches), "evaluation": 0}
        optimizations = {}
        for name, network in model.parameter_groups().items():
            optimizer = self.config.optimizers[name]
            if not schedules:
                optimizer = optimizer.model_copy(update={"scheduler": None})
            schedule = optimizer.scheduler
            if schedule is not None and schedule.type == PLATEAU:
                args = {**schedule.args, "mode": self.config.monitor_mode()}
                optimizer = optimizer.model_copy(update={"scheduler": schedule.model_copy(update={"args": args})})
            every = schedule.every if schedule else "step"
            length = max(1, lengths[every])
            optimizations[name] = Optimization(name, network, optimizer, length, amp_dtype, self.device)
        return optimizations

    def _load_moments(self, model: BaseModel, optimizations: dict[str, Optimization], origin: dict[str, Any]) -> None:
        if not derives(self.config.model.type, _type_of(origin)):
            raise ConfigError(
                f"init_optimizers: {self.config.init_from} holds a part of the model; its moments do not fit"
            )
        if self.config.init_anew:
            raise ConfigError("init_optimizers: what init_anew makes anew has no moments yet; leave one of the two out")
        sections = {name: OptimizerSection.model_validate(s) for name, s in origin["config"]["optimizers"].items()}
        full = {id(parameter): name for name, parameter in model.named_parameters()}
        for name, network in model.parameter_groups().items():
            if name not in sections or sections[name].type != self.config.optimizers[name].type:
                raise ConfigError(f"init_optimizers: {self.config.init_from} has no {name!r} of the same type")
            # What a derived model has besides, that optimizer did not have.
            names = trained_names(network, sections[name])
            names = [one for one in names if full[id(network.get_parameter(one))] in origin["model"]]
            optimizations[name].load_moments_by_name(origin["optimizations"][name], names)

    def _writers(self, run_dir: Path | None) -> MultiWriter:
        if run_dir is None:
            return MultiWriter([])
        config = as_dict(self.config)
        writers = [JsonlWriter(run_dir / "metrics.jsonl")]
        for i, writer in enumerate(self.config.writers):
            given = {"run_dir": run_dir, "run_name": self.config.name, "config": config}
            writers.append(build(f"writers.{i}", writer, registry.WRITERS, **given))
        return MultiWriter(writers)

    def report_unknown(self, split: Split) -> None:
        """Report symbols that the text encoder cannot encode."""
        counts: dict[str, int] = {}
        for record in split.records:
            for symbol in self.task.unknown(record):
                counts[symbol] = counts.get(symbol, 0) + 1
        if counts:
            most = sorted(counts.items(), key=lambda pair: -pair[1])[:10]
            shown = ", ".join(f"{symbol!r} {count}" for symbol, count in most)
            log.warning(
                "%s: %d symbols outside the vocabulary %s: %s",
                split.name,
                sum(counts.values()),
                "can never be recognized and count as errors" if split.evaluation else "are left out",
                shown,
            )


def describe_device(device: torch.device, amp_dtype: torch.dtype | None) -> str:
    """Where a run computes and in which precision, in one line."""
    where = f"{torch.get_num_threads()} threads"
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    together = f", {distributed.world_size()} processes" if distributed.active() else ""
    kind = "float32" if amp_dtype is None else f"{str(amp_dtype).removeprefix('torch.')} (AMP)"
    return f"device: {device} ({where}){together}; precision: {kind}"


def precision(amp: str, device: torch.device) -> torch.dtype | None:
    """The dtype of the forward passes; None is float32.

    ``auto`` is bfloat16 where the device computes in it, float16 on a GPU that does not, off on a CPU that does not and
    on Apple's GPU; so is ``measured`` before anything was.
    """
    if amp in ("auto", "measured"):
        if device.type != "cuda":
            quick = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
            return torch.bfloat16 if quick else None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]


def _with_amp(config: Config, amp: str) -> Config:
    return config.model_copy(update={"trainer": config.trainer.model_copy(update={"amp": amp})})


def _type_of(state: dict[str, Any]) -> Any:
    """The name of a checkpoint's model."""
    section = state["config"].get("model")
    return section.get("type") if isinstance(section, dict) else section
