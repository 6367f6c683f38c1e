"""What a trainer is given; `hw_base.runs.experiment` builds it from a config."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hw_base.config.schema import Config
from hw_base.nn.model import BaseModel
from hw_base.task import BaseTask
from hw_base.text import BaseTextEncoder
from hw_base.training.optimization import Optimization
from hw_base.writers import MultiWriter


@dataclass
class TrainerParts:
    """Everything a trainer works with, built from one config.

    Attributes:
        loaders: one for each split that training looks at, ``train`` among them.
        losses: the modules named in the config, by name.
        optimizations: one for each parameter group of the model.
        metrics: classes or makers of fresh accumulators, by name.
        run_dir: where checkpoints go; None writes nothing.
        task: whose state travels in the checkpoint.
    """

    config: Config
    model: BaseModel
    text_encoder: BaseTextEncoder
    loaders: dict[str, Any]
    losses: dict[str, nn.Module]
    optimizations: dict[str, Optimization]
    device: torch.device
    writers: MultiWriter
    decoders: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    amp_dtype: torch.dtype | None = None
    run_dir: Path | None = None
    task: BaseTask | None = None
