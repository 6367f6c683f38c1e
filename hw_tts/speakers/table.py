"""The table of speakers of a trained model: measured, extended, and its new rows initialized."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from hw_base.config.resolve import build
from hw_base.config.schema import Component, Config
from hw_base.data.dataset import Record
from hw_base.data.loader import Loader
from hw_base.errors import CheckpointError, DataError
from hw_base.nn.losses import as_sum_and_count
from hw_base.registry import LOSSES, SPEAKER_INITS
from hw_tts.models.base import SynthesisModel
from hw_tts.speakers.initial import BaseSpeakerInit, NewSpeakers

log = logging.getLogger(__name__)

# Losses that say how well a voice explains a recording; those of adversaries are left out.
_EXPLAINING = ("KLLoss", "LogDurationLoss", "SpectrogramLoss", "DurationLoss", "PitchLoss", "EnergyLoss")


def measure(records: Iterable[Record], features_of: Callable[[Record], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """What `NewSpeakers.voices` holds, of every speaker of some records.

    Args:
        records: of recordings.
        features_of: gives ``spectrogram`` (F, T), ``pitch`` (T,) in Hz and ``voiced`` (T,).
    """
    sums: dict[str, list[Tensor]] = {}
    for record in records:
        features = features_of(record)
        log_pitch = features["pitch"][features["voiced"]].clamp(min=1.0).log().double()
        mel = features["spectrogram"].double()
        found = [_moments(log_pitch[None]), _moments(mel)]
        known = sums.get(record.speaker)
        sums[record.speaker] = found if known is None else [a + b for a, b in zip(known, found, strict=True)]
    voices = {}
    for speaker, parts in sums.items():
        numbers = []
        for total in parts:
            count, first, second = total
            mean = first / count.clamp(min=1)
            numbers += [mean, (second / count.clamp(min=1) - mean.square()).clamp(min=0).sqrt()]
        voices[speaker] = torch.cat(numbers).float()
    return voices


def _moments(values: Tensor) -> Tensor:
    """Count, sum and sum of squares of each row: (N, T) -> (3, N)."""
    count = torch.full((len(values),), float(values.shape[1]), dtype=torch.float64)
    return torch.stack([count, values.sum(dim=1), values.square().sum(dim=1)])


def extended(weights: Mapping[str, Tensor], model: SynthesisModel, n_new: int, source: str) -> dict[str, Tensor]:
    """Weights whose tables of speakers have rows of zeros for the new ones; complete tables stay as they are.

    Raises:
        CheckpointError: the checkpoint's model knows a single voice, so that it has no table.
    """
    names = model.speaker_tables
    if not any(name in weights for name in names):
        raise CheckpointError(
            f"{source}: a model of a single voice has no table of speakers to extend; train it with several speakers, "
            "or adapt it to one recorded as the same speaker"
        )
    longer, made = dict(weights), dict(model.named_parameters())
    for name in names:
        table = weights[name]
        if len(table) < len(made[name]):
            longer[name] = torch.cat([table, table.new_zeros(n_new, table.shape[1])])
    return longer


def begin(
    model: SynthesisModel,
    config: Config,
    section: Component | None,
    known: list[str],
    new: list[str],
    voices: Mapping[str, Tensor],
    loader: Loader,
) -> None:
    """Give the new rows of every speaker table their first values.

    Args:
        model: with the weights of `extended`.
        config: of the training.
        section: of the initializer, MeanSpeaker if not given.
        known: names of the speakers that the checkpoint has.
        new: names of the others.
        voices: as in `NewSpeakers`.
        loader: of training, for initializers that look at the recordings again.

    Raises:
        DataError: a new speaker has no recordings.
    """
    silent = [name for name in new if name not in voices]
    if silent:
        raise DataError(f"new speakers without recordings in the training split: {', '.join(silent)}")
    section = section or Component(type="MeanSpeaker")
    initializer: BaseSpeakerInit = build("new_speakers", section, SPEAKER_INITS)
    parameters = dict(model.named_parameters())
    for name in model.speaker_tables:
        table = parameters[name].data
        speakers = NewSpeakers(table[: len(known)].cpu(), known, new, voices, config.seed)
        rows = initializer.rows(speakers).to(table)
        with torch.enable_grad():
            rows = initializer.refine(rows, _Explaining(model, config, name, len(known), loader))
        table[len(known) :] = rows
    log.info("new speakers %s initialized by %s", ", ".join(new), section.type)


class _Explaining:
    """``(rows, step) -> loss``: how well the model explains a batch of recordings with these rows in its table."""

    def __init__(self, model: SynthesisModel, config: Config, table: str, n_known: int, loader: Loader) -> None:
        self.model, self.table, self.n_known, self.loader = model, table, n_known, loader
        sections = {name: s for name, s in config.losses.items() if s.type in _EXPLAINING}
        self.losses = {name: build(f"losses.{name}", s, LOSSES) for name, s in sections.items()}
        self.weights = {name: s.weight for name, s in sections.items()}
        self._batches: Any = iter(())

    def __call__(self, rows: Tensor, step: int) -> Tensor:
        batch = self._next()
        parameter = dict(self.model.named_parameters())[self.table]
        table = torch.cat([parameter.detach()[: self.n_known], rows])
        self.model.eval()
        outputs = functional_call(self.model, {self.table: table}, kwargs=batch)
        inputs = {**batch, **outputs}
        values = {name: as_sum_and_count(loss(**inputs)) for name, loss in self.losses.items()}
        return torch.stack([self.weights[name] * mean.total / mean.count for name, mean in values.items()]).sum()

    def _next(self) -> dict[str, Any]:
        batch = next(self._batches, None)
        if batch is None:
            self._batches = iter(self.loader)
            batch = next(self._batches)
        device = next(self.model.parameters()).device
        return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
