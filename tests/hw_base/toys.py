"""Small models and trainers for the tests of the loop, and plain loops to compare them with."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from hw_base.config.schema import Config, OptimizerSection
from hw_base.nn.losses import masked_mean
from hw_base.nn.model import BaseModel
from hw_base.training.optimization import Optimization
from hw_base.training.parts import TrainerParts
from hw_base.training.trainer import BaseTrainer
from hw_base.writers import MultiWriter


class ToyLoader:
    """The part of a loader that the trainer uses, over batches that are there already."""

    def __init__(self, batches: list[dict[str, Any]]) -> None:
        self.batches = batches
        self.start = 0

    def __len__(self) -> int:
        return len(self.batches)

    def set_position(self, epoch: int, batch: int) -> None:
        self.start = batch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.batches[self.start :]:
            yield dict(batch)


class NoText:
    def state_dict(self) -> dict[str, Any]:
        return {}


class Regressor(BaseModel):
    """Frames to frames, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 3))

    def forward(self, x: torch.Tensor, **batch: Any) -> dict[str, torch.Tensor]:
        return {"y": self.net(x)}


class RegressorTrainer(BaseTrainer):
    loss_names = ("mse", "size")

    def losses(self, batch):
        batch.update(self.networks["model"](**batch))
        error = (batch["y"] - batch["target"]).square().mean(-1)
        yield "model", {"mse": masked_mean(error, batch["mask"]), "size": batch["y"].square().mean()}


class Gan(BaseModel):
    """A generator and two discriminators, as in VITS2."""

    parameter_group_names = ("generator", "discriminator", "duration_discriminator")

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
        self.discriminator = nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(0.1), nn.Linear(8, 1))
        self.duration_discriminator = nn.Linear(1, 1)

    def forward(self, x: torch.Tensor, **batch: Any) -> dict[str, torch.Tensor]:
        return {"y": self.generator(x)}

    def parameter_groups(self) -> dict[str, nn.Module]:
        return {name: getattr(self, name) for name in self.parameter_group_names}


class GanTrainer(BaseTrainer):
    loss_names = ("mel", "adv", "duration_adv")

    def losses(self, batch):
        nets = self.networks
        fake = nets["generator"](batch["x"])
        length, real_length = fake.sum(-1, keepdim=True), batch["target"].sum(-1, keepdim=True)
        d = nets["duration_discriminator"]
        yield (
            "duration_discriminator",
            {"adv": (1 - d(real_length)).square().mean() + d(length.detach()).square().mean()},
        )
        d = nets["discriminator"]
        yield "discriminator", {"adv": (1 - d(batch["target"])).square().mean() + d(fake.detach()).square().mean()}
        yield (
            "generator",
            {
                "mel": F.l1_loss(fake, batch["target"]),
                "adv": (1 - nets["discriminator"](fake)).square().mean(),
                "duration_adv": (1 - nets["duration_discriminator"](length)).square().mean(),
            },
        )


def batches(n: int, size: int = 6, seed: int = 0) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for i in range(n):
        x = torch.randn(size, 5, 4, generator=generator)
        mask = torch.arange(5)[None] < torch.randint(1, 6, (size, 1), generator=generator)
        target = torch.randn(size, 5, 3, generator=generator)
        made.append({"x": x, "target": target, "mask": mask, "utterance_id": [f"u{i}-{j}" for j in range(size)]})
    return made


def toy_config(optimizers: dict[str, Any], weights: dict[str, Any], **trainer: Any) -> Config:
    """A config that only the trainer looks at; what the toys do not use is filled with anything valid."""
    trainer = {"log_every": 3, "type": "CTCTrainer", **trainer}
    anything = {"type": "x"}
    return Config.model_validate(
        {
            "task": "asr",
            "name": "toy",
            "data": {
                "train": {"datasets": [anything], "collate": anything},
                "val": {"datasets": [anything], "collate": anything},
            },
            "text_encoder": anything,
            "features": anything,
            "model": anything,
            "losses": {
                name: {"type": "x", **(weight if isinstance(weight, dict) else {"weight": weight})}
                for name, weight in weights.items()
            },
            "optimizers": optimizers,
            "trainer": trainer,
        }
    )


def make(
    trainer_type: type[BaseTrainer],
    model: BaseModel,
    data: list[dict[str, Any]],
    optimizer: dict[str, Any],
    weights: dict[str, Any],
    *,
    run_dir=None,
    writers=None,
    amp_dtype=None,
    val: list[dict[str, Any]] | None = None,
    **section: Any,
) -> BaseTrainer:
    weights = {**dict.fromkeys(trainer_type.loss_names, 1.0), **weights}
    config = toy_config({name: optimizer for name in model.parameter_group_names}, weights, **section)
    steps = config.trainer.max_steps or config.trainer.epochs * len(data)
    optimizations = {}
    for name, network in model.parameter_groups().items():
        parsed = OptimizerSection.model_validate(optimizer)
        every = parsed.scheduler.every if parsed.scheduler else "step"
        length = steps // config.trainer.accumulate if every == "step" else -(-steps // len(data))
        optimizations[name] = Optimization(name, network, parsed, length, amp_dtype)
    setup = TrainerParts(
        config=config,
        model=model,
        text_encoder=NoText(),
        loaders={"train": ToyLoader(data), "val": ToyLoader(val if val is not None else data[:2])},
        losses={},
        optimizations=optimizations,
        device=torch.device("cpu"),
        writers=writers or MultiWriter(),
        amp_dtype=amp_dtype,
        run_dir=run_dir,
    )
    return trainer_type(setup)
