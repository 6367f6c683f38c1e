"""What a watcher sees and says; and the one object that the loop calls, which writes ``diagnosis.jsonl``."""

import json
import logging
import statistics
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hw_base import distributed
from hw_base.texts.files import from_json

log = logging.getLogger(__name__)

FILE = "diagnosis.jsonl"

# Findings that say why weights stay what they were: what comes out is then that of a model that knows nothing.
_NAN = {f"nan_in_{place}" for place in ("weights", "input", "layer", "loss", "gradients")}
NOT_LEARNING = frozenset(
    {"lr_too_low", "schedule_too_slow", "clipped_to_nothing", "loss_scale_sinks", "never_moves"} | _NAN
)


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        name: short, the same for the same kind of fault: ``lr_too_high``.
        sentence: what is wrong, for people.
        evidence: numbers and names that show it.
        causes: likely ones, the likeliest first.
        advice: what to do.
    """

    name: str
    sentence: str
    evidence: Mapping[str, Any]
    causes: Sequence[str]
    advice: str

    def line(self) -> str:
        """All of it in a line of the log."""
        shown = ", ".join(f"{key} {_short(value)}" for key, value in self.evidence.items())
        return f"{self.name}: {self.sentence} ({shown}). Likely: {'; '.join(self.causes)}. Do: {self.advice}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        more = f" and {len(value) - 3} more" if len(value) > 3 else ""
        return ", ".join(_short(one) for one in value[:3]) + more
    return str(value)


@dataclass(frozen=True)
class Layer:
    """One parameter at a logged step, right after an update.

    Attributes:
        name: with the name of its network: ``model: convs.0.conv.weight``.
        is_matrix: whether it has more than one dimension.
        trained: whether it belongs to an optimizer now.
        allowed_frozen: whether the config says that it is not trained, or not yet.
        requires_grad: whether gradients are computed for it.
        weight: norm of its values.
        gradient: norm of its gradient, behind clipping; None where it has none.
        update: norm of what the last update changed; None where that is not known.
    """

    name: str
    is_matrix: bool
    trained: bool
    allowed_frozen: bool
    requires_grad: bool
    weight: float
    gradient: float | None
    update: float | None


@dataclass(frozen=True)
class Optimizing:
    """One optimizer at a logged step.

    Attributes:
        lr: of the next update.
        base_lr: as configured.
        clip_norm: as configured.
        weight_decay: as configured.
        loss_scale: of float16; None without.
        every: when its schedule is stepped; None without a schedule.
        leftover: norm of the gradients that were there before the first backward pass of the update.
    """

    lr: float
    base_lr: float
    clip_norm: float | None
    weight_decay: float
    loss_scale: float | None
    every: str | None
    leftover: float = 0.0


@dataclass(frozen=True)
class Given:
    """Utterances that training was given since the last look, by this process.

    Attributes:
        names: their ids.
        count: how many they were, each as often as it was given.
        steps: batches that they were given in.
        per_epoch: batches of an epoch.
    """

    names: frozenset[str]
    count: int
    steps: int
    per_epoch: int


@dataclass(frozen=True)
class Seen:
    """What watchers are shown at a logged step.

    Attributes:
        step: batches so far.
        last_step: where training ends.
        values: the row of the log: means since the last one, without ``train/``.
        evaluation: values of an evaluation at this step, ``val/loss``; empty without one.
        batch: the last one with the model's outputs, detached.
        layers: every parameter; empty where no update ended at this step.
        optimizers: by name.
        device: kind of device.
        started_from: whether weights were given, by ``init_from``.
        gradients: of weight matrices, by name as in `layers`, for watchers that look at rows.
        given: what training was given; None where that is not known.
        evaluating: trained networks that were in evaluation mode during the last step.
    """

    step: int
    last_step: int
    values: Mapping[str, float]
    evaluation: Mapping[str, float]
    batch: Mapping[str, Any]
    layers: Sequence[Layer] = ()
    optimizers: Mapping[str, Optimizing] = field(default_factory=dict)
    device: str = "cpu"
    started_from: bool = False
    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    given: Given | None = None
    evaluating: Sequence[str] = ()


class Watcher(ABC):
    """Looks at what the loop shows at logged steps and says what it finds wrong.

    It may remember, draws no random numbers and changes nothing. A finding is reported once in a run.

    Attributes:
        follows: name of a finding of its own -> names of others that it follows from: after one of these it is not
            said, so that a cause is not buried under its consequences.
    """

    follows: ClassVar[Mapping[str, frozenset[str]]] = {}

    @abstractmethod
    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        """Findings at this step."""


class InARow:
    """Counts how often in a row something was seen.

    Args:
        needed: so many times make it certain.
    """

    def __init__(self, needed: int) -> None:
        self.needed, self.count = needed, 0

    def __call__(self, holds: bool) -> bool:
        """Note one look; whether it is certain now."""
        self.count = self.count + 1 if holds else 0
        return self.count >= self.needed


class Recent:
    """The last values of something, for a median.

    Args:
        n: how many.
    """

    def __init__(self, n: int) -> None:
        self.values: deque[float] = deque(maxlen=n)

    def add(self, value: float) -> float | None:
        """Note one; the median once there are `n`."""
        self.values.append(value)
        return statistics.median(self.values) if len(self.values) == self.values.maxlen else None


class Watch:
    """All watchers of a run; every finding goes to the log and to ``diagnosis.jsonl``, once.

    Args:
        watchers: of the loop and of the task.
        run_dir: where the file goes; None writes none.

    Attributes:
        found: what was said, with its step.
    """

    def __init__(self, watchers: Sequence[Watcher], run_dir: Path | None) -> None:
        self.watchers = watchers
        self.path = run_dir / FILE if run_dir is not None else None
        self.found: list[tuple[int, Diagnosis]] = []
        self._said: set[str] = set(_names_in(self.path))

    def look(self, seen: Seen) -> None:
        """Show all watchers a step."""
        for watcher in self.watchers:
            found = watcher.look(seen)
            self.say(seen.step, (one for one in found if not self._said & watcher.follows.get(one.name, frozenset())))

    def say(self, step: int, findings: Iterable[Diagnosis]) -> None:
        """Report what was not reported before."""
        for one in findings:
            if one.name in self._said:
                continue
            self._said.add(one.name)
            self.found.append((step, one))
            log.warning("step %d: %s", step, one.line())
            self._keep(step, one)

    def note(self, step: int, findings: Iterable[Diagnosis]) -> None:
        """Write what the log has in other words already."""
        for one in findings:
            if one.name not in self._said:
                self._said.add(one.name)
                self._keep(step, one)

    def _keep(self, step: int, one: Diagnosis) -> None:
        if self.path is not None and distributed.is_main():
            self._write(self.path, {"step": step, **asdict(one)})

    def _write(self, path: Path, row: dict[str, Any]) -> None:
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        except OSError as error:
            log.warning("%s: cannot be written: %s", path, error.strerror)


def _names_in(path: Path | None) -> Iterator[str]:
    """Names of findings that a run which is resumed has in its file."""
    if path is None or not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = from_json(line)
        except ValueError:  # the last line of a run that was killed
            continue
        if isinstance(row, dict):
            yield str(row.get("name"))


def layers_of(
    networks: Mapping[str, nn.Module],
    trained: set[nn.Parameter],
    configured: Mapping[str, set[str]],
    before: Mapping[nn.Parameter, Tensor],
) -> list[Layer]:
    """Norms of all weights, gradients and updates; the device is waited for once.

    Args:
        networks: by the name of their optimizer.
        trained: the parameters that optimizers hold.
        configured: for each network the names of parameters that the config leaves out, now or always.
        before: the weights before the last update.
    """
    rows = [(group, key, p) for group, network in networks.items() for key, p in network.named_parameters()]
    parameters = [p.detach() for _, _, p in rows]
    changed = [i for i, (_, _, p) in enumerate(rows) if p in before]
    with_gradient = [i for i, (_, _, p) in enumerate(rows) if p.grad is not None]
    norms = list(torch._foreach_norm(parameters))
    norms += torch._foreach_norm([rows[i][2].grad for i in with_gradient]) if with_gradient else []  # type: ignore[misc]
    if changed:
        moved = torch._foreach_sub([parameters[i] for i in changed], [before[rows[i][2]] for i in changed])
        norms += torch._foreach_norm(moved)
    values = torch.stack([norm.float() for norm in norms]).tolist() if norms else []
    gradients = dict(zip(with_gradient, values[len(rows) :], strict=False))
    updates = dict(zip(changed, values[len(rows) + len(with_gradient) :], strict=True))
    return [
        Layer(
            f"{group}: {key}",
            p.dim() > 1,
            p in trained,
            key in configured.get(group, set()),
            p.requires_grad,
            values[i],
            gradients.get(i),
            updates.get(i),
        )
        for i, (group, key, p) in enumerate(rows)
    ]
