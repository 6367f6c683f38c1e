"""The sections of a config and their keys; the keys of a component are its class's own (see `resolve.py`)."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PlainValidator,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from hw_base import registry
from hw_base.registry import Registry

TRAIN_SPLIT = "train"
TEST_PREFIX = "test"


# Of two keys one is given: setting one on the command line takes the other out.
EXCLUSIVE: dict[tuple[str | int, ...], tuple[str | int, ...]] = {
    ("trainer", "max_steps"): ("trainer", "epochs"),
    ("trainer", "epochs"): ("trainer", "max_steps"),
}


class PathMark:
    """Marks a text as the path of a file or folder, see `hw_base.config.paths`."""


PathText = Annotated[str, PathMark()]

# Bounds of what a config may ask for; values beyond them are mistakes, or attempts to exhaust memory.
Depth = Annotated[int, Field(gt=0, le=1000)]
Size = Annotated[int, Field(gt=0, le=65536)]
Count = Annotated[int, Field(ge=0, le=1000)]
Threads = Annotated[int, Field(gt=0, le=512)]
Hours = Annotated[float, Field(gt=0, le=8760)]
SampleRate = Annotated[int, Field(gt=0, le=768_000)]


def _interval(value: Any) -> int | str | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if value is None or whole or (isinstance(value, str) and _EPOCHS.fullmatch(value)):
        return value  # type: ignore[no-any-return]
    raise ValueError('expected a number of steps, or "1 epoch", "5 epochs"')


def _workers(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_WORKERS):
        return value
    raise ValueError(f'expected 0 to {_MOST_WORKERS}, or "auto"')


_MOST_WORKERS = 512
Workers = Annotated[int | Literal["auto"], PlainValidator(_workers)]

_EPOCHS = re.compile(r"([1-9]\d{0,8}) epochs?")
Interval = Annotated[int | str | None, PlainValidator(_interval)]


def steps_of(interval: int | str, steps_per_epoch: int) -> int:
    """An interval of the config in steps: ``500`` or ``"5 epochs"``."""
    if isinstance(interval, int):
        return interval
    return int(interval.split()[0]) * steps_per_epoch


class Section(BaseModel):
    """A mapping whose keys are all known and whose values are never coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class Component(Section):
    """``{"type": name, "args": {...}}``; a bare name is short for one without arguments."""

    type: str
    args: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value


@dataclass(frozen=True)
class Of:
    """Marks a field as a component of one registry.

    Attributes:
        registry: where ``type`` is looked up.
        runtime: constructor arguments that code provides; they may not stand in a file.
        filled: arguments that code provides where the file is silent.
    """

    registry: Registry[Any]
    runtime: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()


class SchedulerSection(Component):
    """A schedule of ``torch.optim.lr_scheduler`` or of this project; its length comes from the trainer's."""

    every: Literal["step", "epoch", "evaluation"] = "step"


MODEL = Of(registry.MODELS, runtime=("n_mels", "n_tokens"))
SCHEDULER = Of(
    registry.SCHEDULERS,
    runtime=("optimizer", "total_steps", "epochs", "steps_per_epoch", "last_epoch"),
    filled=("T_max", "total_iters", "max_lr", "mode"),
)


class OptimizerSection(Component):
    """How one parameter group of the model is trained.

    Names of parameters are those within the group's network; a frozen parameter never changes.

    Attributes:
        clip_norm: gradients are scaled down to this norm.
        train: globs of what is trained, ``["emb_g.*"]``; the rest is frozen.
        freeze: globs of what is also frozen.
        thaw: glob -> epoch, from 1 on, from which frozen parameters are unfrozen.
        lr_factors: glob -> factor of the learning rate.
    """

    scheduler: Annotated[SchedulerSection, SCHEDULER] | None = None
    clip_norm: PositiveFloat | None = None
    train: list[str] = Field(default=["*"], min_length=1)
    freeze: list[str] = []
    thaw: dict[str, PositiveInt] = {}
    lr_factors: dict[str, PositiveFloat] = {}


class LossSection(Component):
    """A loss and its weight in the total; a bare number weighs the loss that the trainer uses by that name.

    Attributes:
        weight: in the total, and in that of every evaluation.
        warmup_steps: steps of training over which the weight grows from nothing; 0 has it from the start.
    """

    weight: NonNegativeFloat = 1.0
    warmup_steps: NonNegativeInt = 0


class SplitSection(Section):
    """One split: where its utterances come from, which are kept, how they are batched.

    Attributes:
        batch_size: utterances in a batch, over all processes.
        max_batch_seconds: bound on batch size times longest duration, over all processes.
        jitter: how far training batches may mix durations, as a fraction; padding grows by about as much.
        workers: processes that read audio; 0 reads in the training process, ``auto`` chooses by device and cores. The
            batches are the same for any number.
        cache: where training keeps what it has read, and spectrograms that no augmentation makes anew each time, for
            the epochs that follow: in ``memory`` that all workers share, on ``disk`` for later runs too, or nowhere.
        min_seconds: shorter utterances are dropped, as are those beyond the next two limits; drops are reported.
        limit: keep this many utterances, picked at random, always the same.
        on_bad_data: whether a file that cannot be used ends the run or is left out, counted and named.
    """

    datasets: list[Annotated[Component, Of(registry.DATASETS)]] = Field(min_length=1)
    batch_size: Size = 16
    max_batch_seconds: PositiveFloat | None = None
    jitter: float = Field(default=0.015, ge=0, lt=1)
    workers: Workers = 0
    cache: Literal["none", "memory", "disk"] = "none"
    collate: Annotated[Component, Of(registry.COLLATES)]
    min_seconds: NonNegativeFloat = 0.1
    max_seconds: PositiveFloat | None = None
    max_text_length: PositiveInt | None = None
    limit: PositiveInt | None = None
    on_bad_data: Literal["fail", "skip"] = "fail"


class TrainerSection(Component):
    """How long training lasts and what happens on its way; steps count batches.

    Attributes:
        max_steps: length in steps; or `epochs`, one of the two.
        max_hours: after so many hours of one process it saves and ends with exit code 75; ``-r auto`` resumes.
        accumulate: batches per update.
        amp: precision of forward passes; ``auto`` is bf16 where the device has it, else fp16 on a GPU, off on a CPU.
            ``measured`` tries bf16 and off on the first batch where a CPU trains, takes the faster one, and writes it
            into the config of the run and of its checkpoints; on a GPU it is ``auto``.
        ema_decay: of an exponential moving average of the weights (0.999 averages about 1000 updates), which is what is
            evaluated and saved as the model; none if not given.
        log_every: steps between rows of training figures; tensors are read only then.
        eval_every: steps between evaluations, or ``"5 epochs"``; each epoch if not given.
        eval_first: evaluate before the first step too, which shows what fine-tuning starts from.
        save_every: steps or epochs between checkpoints; at each evaluation if not given.
        keep: newest checkpoints that are kept; the best one is kept besides, as ``model_best.pth``.
        keep_best: how many of the best are kept too, for ``python -m hw_base.average``.
        monitor: what the best checkpoint is chosen by, ``min val/wer``.
        early_stop: evaluations without improvement after which training ends.
        max_bad_steps: updates in a row with a non-finite loss or gradient after which training ends.
        examples: utterances shown at each evaluation.
        timeout: seconds that a process waits for the others, where several train together; one that died or hangs then
            ends the run.
        preflight: examine data, model and losses in a few seconds before a new run, and log what is wrong.
    """

    max_steps: PositiveInt | None = None
    epochs: PositiveInt | None = None
    max_hours: Hours | None = None
    accumulate: PositiveInt = 1
    amp: Literal["auto", "measured", "off", "bf16", "fp16"] = "auto"
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    log_every: PositiveInt = 50
    eval_every: Interval = None
    eval_first: bool = False
    save_every: Interval = None
    keep: int = Field(default=2, ge=2)
    keep_best: NonNegativeInt = 0
    monitor: str | None = None
    early_stop: PositiveInt | None = None
    max_bad_steps: PositiveInt = 10
    examples: NonNegativeInt = 5
    timeout: PositiveFloat = 1800.0
    preflight: bool = True


class Config(Section):
    """One experiment, complete; a task may add sections of its own, see `hw_base.task.BaseTask.config_class`.

    Attributes:
        about: for people: the command and what to expect.
        init_from: checkpoint whose weights training starts from, with its text encoder; of the same model, of one
            that the model is derived from, or of the kind that a `Transducer` has for its encoder.
        init_anew: globs of the model's parameters and buffers that start as its constructor makes them all the same.
        init_text_encoder: false: symbols are learned anew from the training split; `init_anew` then has to name what
            depends on their number.
        init_optimizers: take the moments of its optimizers too, by names of parameters.
        decoder: which of the decoders gives the result; the one named first if not given.
    """

    about: str | list[str] = ""
    task: str
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: NonNegativeInt = 0
    init_from: PathText | None = None
    init_anew: list[str] = []
    init_text_encoder: bool = True
    init_optimizers: bool = False
    data: dict[str, SplitSection] = Field(min_length=1)
    text_encoder: Annotated[Component, Of(registry.TEXT_ENCODERS)]
    features: Annotated[Component, Of(registry.FEATURES)]
    augmentations: list[Annotated[Component, Of(registry.AUGMENTATIONS, runtime=("sample_rate",))]] = []
    model: Annotated[Component, MODEL]
    losses: dict[str, Annotated[LossSection, Of(registry.LOSSES)]] = Field(min_length=1)
    optimizers: dict[str, Annotated[OptimizerSection, Of(registry.OPTIMIZERS, runtime=("params",))]] = Field(
        min_length=1
    )
    trainer: Annotated[TrainerSection, Of(registry.TRAINERS, runtime=("setup",))]
    decoders: dict[str, Annotated[Component, Of(registry.DECODERS, runtime=("text_encoder",))]] = {}
    decoder: str | None = None
    metrics: dict[str, Annotated[Component, Of(registry.METRICS)]] = {}
    writers: list[Annotated[Component, Of(registry.WRITERS, runtime=("run_dir", "run_name", "config"))]] = []

    def monitor_mode(self) -> str | None:
        """``min`` or ``max``; None without a monitor."""
        return (self.trainer.monitor or "").partition(" ")[0] or None

    def evaluation_splits(self) -> list[str]:
        """The splits that training looks at: neither the training split nor those kept for the test."""
        return [name for name in self.data if name != TRAIN_SPLIT and not name.startswith(TEST_PREFIX)]

    def primary_decoder(self) -> str | None:
        """The decoder whose texts are the result; None where there are no decoders."""
        return self.decoder or next(iter(self.decoders), None)

    def test_splits(self) -> list[str]:
        """The splits that only the test looks at; where there are none, the evaluation splits."""
        return [name for name in self.data if name.startswith(TEST_PREFIX)] or self.evaluation_splits()
