"""What the loop shows to the watchers at a logged step."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from hw_base.training.optimization import Optimization
from hw_base.training.state import TrainingState
from hw_base.watch.diagnosis import Given, Optimizing, Seen, Watcher, layers_of
from hw_base.watch.run import Data, Divergence, LossScale, Mode, Overfitting, Schedule, Starving
from hw_base.watch.weights import DeadUnits, Gradients, LearningRate, Shrinking, Untrained


def watchers_of_the_loop() -> list[Watcher]:
    """Those that need to know no task."""
    weights: list[Watcher] = [Untrained(), LearningRate(), Shrinking(), Gradients(), DeadUnits()]
    return [*weights, Divergence(), Overfitting(), Schedule(), LossScale(), Starving(), Data(), Mode()]


class Steps:
    """What the training steps since the last look leave for the next one.

    Attributes:
        outputs: the last batch that was logged, with the model's outputs, without their graph.
        leftover: norms of the gradients that were there before the first backward pass of the last update, by
            optimizer; normally there are none.
        evaluating: trained networks that were in evaluation mode in the step that was logged.
    """

    def __init__(self) -> None:
        self.outputs: dict[str, Any] = {}
        self.leftover: dict[str, list[Tensor]] = {}
        self.evaluating: list[str] = []
        self._names: set[str] = set()
        self._count, self._steps = 0, 0

    def begin_update(self, optimizations: Mapping[str, Optimization]) -> None:
        """Before the first backward pass of an update."""
        found = {name: [p.grad for p in o.parameters if p.grad is not None] for name, o in optimizations.items()}
        self.leftover = {name: [g.detach().norm() for g in gradients] for name, gradients in found.items() if gradients}

    def take(self, utterances: Sequence[str]) -> None:
        """A batch of these."""
        self._names.update(utterances)
        self._count, self._steps = self._count + len(utterances), self._steps + 1

    def log(self, batch: Mapping[str, Any], networks: Mapping[str, nn.Module]) -> None:
        """At the end of a step that is logged."""
        self.outputs = {key: value.detach() if isinstance(value, Tensor) else value for key, value in batch.items()}
        self.evaluating = [name for name, network in networks.items() if not network.training]

    def given(self, per_epoch: int) -> Given:
        """The utterances since the last call."""
        given = Given(frozenset(self._names), self._count, self._steps, per_epoch)
        self._names, self._count, self._steps = set(), 0, 0
        return given


def seen(
    state: TrainingState,
    values: Mapping[str, float],
    evaluation: Mapping[str, float],
    steps: Steps,
) -> Seen:
    """A look at the run as it stands; right after an update also at all of its weights.

    Args:
        state: of the run.
        values: the row of the log; empty between logged steps.
        evaluation: of this step; empty without one.
        steps: since the last look.
    """
    updated = bool(values) and state.step % state.section.accumulate == 0
    optimizations = state.optimizations
    # In float16 the scale may skip an update, which is no news.
    before = dict(zip(state.model.parameters(), state.last_good.before, strict=False)) if updated else {}
    trained = {p for o in optimizations.values() for group in o.optimizer.param_groups for p in group["params"]}
    left_out = {name: o.left_out for name, o in optimizations.items()}
    return Seen(
        state.step,
        state.last_step,
        values,
        evaluation,
        steps.outputs if values else {},
        layers_of(state.networks, trained, left_out, before) if updated else (),
        {name: _optimizing(o, steps.leftover.get(name, [])) for name, o in optimizations.items()},
        state.device.type,
        state.setup.config.init_from is not None,
        dict(_row_gradients(state.networks)) if updated else {},
        steps.given(len(state.loader)),
        steps.evaluating,
    )


def _optimizing(optimization: Optimization, left: list[Tensor]) -> Optimizing:
    scaler = optimization.scaler
    return Optimizing(
        optimization.lr,
        optimization.base_lr,
        optimization.clip_norm,
        float(optimization.optimizer.param_groups[0].get("weight_decay", 0.0)),
        scaler.get_scale() if scaler is not None else None,
        optimization.every if optimization.scheduler is not None else None,
        float(sum(left)) if left else 0.0,
    )


def _row_gradients(networks: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Gradients of the weights whose rows are units."""
    for group, network in networks.items():
        for name, module in network.named_modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                weight = module.weight
                if isinstance(weight, nn.Parameter) and weight.grad is not None:
                    yield f"{group}: {name}.weight", weight.grad.detach()
