"""Schedules of the learning rate that torch does not have."""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeInt
from torch.optim import lr_scheduler

from hw_base.registry import SCHEDULERS


@SCHEDULERS.register()
class WarmupDecay(lr_scheduler.LambdaLR):
    """Linear warm-up to the optimizer's rate, then a decay.

    Args:
        optimizer: whose rate is the peak.
        total_steps: length of the whole schedule.
        warmup_steps: length of the warm-up.
        hold_share: part of the steps after the warm-up that stay at the peak before the decay.
        decay: ``cosine`` and ``linear`` reach `final_share` at the end; ``inverse_sqrt`` is the Transformer's schedule
            (Vaswani et al. 2017, section 5.3) scaled to its peak; ``none`` stays.
        final_share: last rate as a fraction of the peak.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        total_steps: int,
        warmup_steps: NonNegativeInt = 1000,
        decay: Literal["cosine", "linear", "inverse_sqrt", "none"] = "cosine",
        final_share: float = 0.0,
        hold_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0,
    ) -> None:
        begin = warmup_steps + int(hold_share * max(0, total_steps - warmup_steps))

        def fraction(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / (warmup_steps + 1)
            if step < begin:
                return 1.0
            done = min(1.0, (step - begin) / max(1, total_steps - begin))
            if decay == "inverse_sqrt":
                return math.sqrt((begin + 1) / (step + 1))
            left = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "none": 1.0}[decay]
            return final_share + (1 - final_share) * left

        super().__init__(optimizer, fraction)
