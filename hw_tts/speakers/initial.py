"""New voices for a trained model: how the rows that its table of speakers lacks are initialized."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from hw_base.errors import ConfigError
from hw_base.registry import SPEAKER_INITS, suggest

T = TypeVar("T")


@dataclass(frozen=True)
class NewSpeakers:
    """What an initializer knows.

    Attributes:
        table (Tensor): rows of the known speakers, (N, D).
        known: their names.
        new: names of the speakers to begin.
        voices: name -> what was measured of a speaker's recordings: mean and deviation of log F0, then of each mel bin,
            float32, (2 + 2 F,); known speakers may be missing, new ones never are.
        seed: of everything random.
    """

    table: Tensor
    known: list[str]
    new: list[str]
    voices: Mapping[str, Tensor]
    seed: int


class BaseSpeakerInit(ABC):
    """Begins rows of a speaker table."""

    @abstractmethod
    def rows(self, speakers: NewSpeakers) -> Tensor:
        """The rows of the new speakers, (M, D)."""

    def refine(self, rows: Tensor, loss_of: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Improve the rows by the new recordings; most initializers leave them.

        Args:
            rows (Tensor): (M, D).
            loss_of: ``(rows, step) -> loss`` over a batch of the new recordings, everything else frozen.
        """
        return rows


@SPEAKER_INITS.register()
class RandomSpeakers(BaseSpeakerInit):
    """Normal, with the mean and deviation of the known rows in each dimension."""

    def __init__(self) -> None:
        super().__init__()

    def rows(self, speakers: NewSpeakers) -> Tensor:
        generator = torch.Generator().manual_seed(speakers.seed)
        noise = torch.randn(len(speakers.new), speakers.table.shape[1], generator=generator)
        return speakers.table.mean(dim=0) + speakers.table.std(dim=0, correction=0) * noise


@SPEAKER_INITS.register()
class MeanSpeaker(BaseSpeakerInit):
    """Every new speaker begins as the mean of the known ones."""

    def __init__(self) -> None:
        super().__init__()

    def rows(self, speakers: NewSpeakers) -> Tensor:
        return speakers.table.mean(dim=0, keepdim=True).repeat(len(speakers.new), 1)


@SPEAKER_INITS.register()
class NearestSpeaker(BaseSpeakerInit):
    """Every new speaker begins as the known one whose recordings are most alike (see `distances`)."""

    def __init__(self) -> None:
        super().__init__()

    def rows(self, speakers: NewSpeakers) -> Tensor:
        return speakers.table[distances(speakers).argmin(dim=1)]


@SPEAKER_INITS.register()
class MixedSpeakers(BaseSpeakerInit):
    """Every new speaker begins as a weighted mean of known ones.

    Args:
        weights: new speaker -> known speaker -> weight, normed to sum to 1. Without it the weights fall off with the
            distance of the recordings: a softmax of its negative, divided by the `temperature`.
        temperature: small ones make it `NearestSpeaker`, large ones `MeanSpeaker`.
    """

    def __init__(
        self, weights: dict[str, dict[str, NonNegativeFloat]] | None = None, temperature: PositiveFloat = 0.2
    ) -> None:
        super().__init__()
        self.weights, self.temperature = weights, temperature

    def rows(self, speakers: NewSpeakers) -> Tensor:
        if self.weights is None:
            return torch.softmax(-distances(speakers) / self.temperature, dim=1) @ speakers.table
        chosen = []
        for name in speakers.new:
            fractions = torch.zeros(len(speakers.known))
            for known, weight in _of(self.weights, name, "weights").items():
                fractions[_index(speakers, known, f"weights.{name}")] = weight
            if not float(fractions.sum()) > 0:
                raise ConfigError(f"new_speakers.weights.{name}: expected a positive sum of weights")
            chosen.append(fractions / fractions.sum())
        return torch.stack(chosen) @ speakers.table


@SPEAKER_INITS.register()
class GivenSpeakers(BaseSpeakerInit):
    """Every new speaker begins as the known one that is named.

    Args:
        speakers: new speaker -> known speaker.
    """

    def __init__(self, speakers: dict[str, str]) -> None:
        super().__init__()
        self.speakers = speakers

    def rows(self, speakers: NewSpeakers) -> Tensor:
        names = [_of(self.speakers, name, "speakers") for name in speakers.new]
        return speakers.table[[_index(speakers, known, "speakers") for known in names]]


@SPEAKER_INITS.register()
class EstimatedSpeakers(BaseSpeakerInit):
    """The rows that explain the new recordings best, found by gradient descent with everything else frozen.

    Args:
        steps: updates, each over one batch of the new recordings.
        lr: of Adam, as a fraction of the deviation of the known rows.
        temperature: of the mixture that it begins with, as in `MixedSpeakers`.
    """

    def __init__(
        self,
        steps: PositiveInt = 100,
        lr: PositiveFloat = 0.05,
        temperature: Annotated[float, Field(gt=0)] = 0.2,
    ) -> None:
        super().__init__()
        self.steps, self.lr = steps, lr
        self._start = MixedSpeakers(temperature=temperature)
        self._scale = 1.0

    def rows(self, speakers: NewSpeakers) -> Tensor:
        self._scale = float(speakers.table.std(dim=0, correction=0).mean())
        return self._start.rows(speakers)

    def refine(self, rows: Tensor, loss_of: Callable[[Tensor, int], Tensor]) -> Tensor:
        rows = rows.detach().clone().requires_grad_(True)
        optimizer = torch.optim.Adam([rows], lr=self.lr * self._scale)
        for step in range(self.steps):
            (gradient,) = torch.autograd.grad(loss_of(rows, step), rows)
            if bool(torch.isfinite(gradient).all()):
                rows.grad = gradient
                optimizer.step()
        return rows.detach()


def distances(speakers: NewSpeakers) -> Tensor:
    """How unlike the recordings of new and known speakers are, (M, N), infinite for known ones without measurements.

    Half of it is pitch (mean and deviation of log F0), half the spectrum (mean and deviation of each mel bin); each
    number is divided by its deviation over the known speakers.

    Raises:
        ConfigError: the checkpoint has measurements of no known speaker.
    """
    measured = [i for i, name in enumerate(speakers.known) if name in speakers.voices]
    if not measured:
        raise ConfigError(
            "new_speakers: the checkpoint holds no measurements of its speakers' recordings; import it with --measure "
            "LIST, or take GivenSpeakers, MeanSpeaker or RandomSpeakers"
        )
    known = torch.stack([speakers.voices[speakers.known[i]] for i in measured])
    new = torch.stack([speakers.voices[name] for name in speakers.new])
    spread = known.std(dim=0, correction=0)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    difference = ((new[:, None] - known[None]) / spread).square()
    apart = (0.5 * difference[..., :2].mean(dim=-1) + 0.5 * difference[..., 2:].mean(dim=-1)).sqrt()
    found = torch.full((len(speakers.new), len(speakers.known)), torch.inf)
    found[:, measured] = apart
    return found


def _of(table: Mapping[str, T], name: str, key: str) -> T:
    if name not in table:
        raise ConfigError(f"new_speakers.{key}: has no entry for the new speaker {name!r}")
    return table[name]


def _index(speakers: NewSpeakers, name: str, key: str) -> int:
    if name not in speakers.known:
        raise ConfigError(
            f"new_speakers.{key}: the checkpoint knows no speaker {name!r}. {suggest(name, speakers.known)}"
        )
    return speakers.known.index(name)
