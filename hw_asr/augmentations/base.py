"""What every augmentation of a waveform or spectrogram keeps to."""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from hw_base.errors import ConfigError

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class BaseAugmentation(ABC):
    """A random change of one signal that leaves its transcript true.

    Everything random comes from the generator of the call, so that the same generator state gives the same result.

    Args:
        p: probability with which a signal is changed at all.

    Attributes:
        domain: what is changed: ``waveform`` (S,) or ``spectrogram`` (F, T).
        keeps_length: the result is as long as the signal.
    """

    domain: ClassVar[Literal["waveform", "spectrogram"]]
    keeps_length: ClassVar[bool] = True

    def __init__(self, p: Probability) -> None:
        self.p = p

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Change ``x`` with probability ``p``.

        Args:
            x (Tensor): (S,) or (F, T), float32; it is never modified in place. An empty one is returned as it is.
            generator: where every random number comes from, on the CPU.

        Returns:
            Tensor: (S',) or (F, T').
        """
        changes = self.changes(generator)
        if x.shape[-1] == 0 or not changes:
            return x
        return self.apply(x, generator)

    def changes(self, generator: torch.Generator) -> bool:
        """Draw whether a signal is changed at all."""
        # Drawn even where the answer is known: what follows in the generator's stream must not depend on p.
        return torch.rand((), generator=generator).item() < self.p

    @abstractmethod
    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The change itself, of a signal that is not empty."""


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    """A number between ``low`` and ``high``."""
    return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))


def check_range(owner: BaseAugmentation, name: str, low: float, high: float) -> None:
    """Refuse a range whose ends are swapped.

    Raises:
        ConfigError: ``low`` is above ``high``.
    """
    if low > high:
        raise ConfigError(f"{type(owner).__name__}: min_{name} = {low:g} is above max_{name} = {high:g}")
