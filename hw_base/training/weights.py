"""The weights of the losses, as the config names them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from hw_base.config.schema import LossSection
from hw_base.errors import ConfigError


class LossWeights:
    """Named losses to one number that is minimized.

    Args:
        sections: the config's ``losses``.
    """

    def __init__(self, sections: Mapping[str, LossSection]) -> None:
        self._sections = sections

    def weight(self, name: str, step: int | None = None) -> float:
        """Weight of a loss.

        Args:
            name: of the loss.
            step: counted from 1, for the warm-up; None is the weight after the warm-up.

        Raises:
            ConfigError: the config does not name this loss.
        """
        section = self._sections.get(name)
        if section is None:
            raise ConfigError(
                f"losses.{name}: the trainer computes this loss and the config gives it no weight. Add it to losses "
                f"({', '.join(self._sections) or 'empty now'}), or report it with self.log() if it is not optimized"
            )
        if step is None or not section.warmup_steps:
            return section.weight
        return section.weight * min(1.0, step / section.warmup_steps)

    def total(self, values: Mapping[str, Tensor], step: int) -> Tensor:
        """The weighted sum of named losses at a step of training, scalar.

        Raises:
            ConfigError: the config does not name one of them.
        """
        return torch.stack([self.weight(name, step) * value for name, value in values.items()]).sum()

    def totals(self, means: Mapping[str, float]) -> dict[str, float]:
        """The weighted sums of logged means, ``loss`` or ``<optimizer>/loss``.

        Raises:
            ConfigError: the config does not name one of them.
        """
        totals: dict[str, float] = {}
        for name, value in means.items():
            group, slash, key = name.rpartition("/")
            total = f"{group}{slash}loss"
            totals[total] = totals.get(total, 0.0) + self.weight(key) * value
        return totals
