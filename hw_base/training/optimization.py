"""One optimizer with what belongs to it, for one parameter group: schedule, clipping, loss scaler."""

import contextlib
import inspect
import math
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import lr_scheduler

from hw_base import distributed
from hw_base.config.resolve import build
from hw_base.config.schema import OptimizerSection
from hw_base.errors import CheckpointError, ConfigError
from hw_base.registry import OPTIMIZERS, SCHEDULERS
from hw_base.training import muon  # noqa: F401 - registers itself
from hw_base.training.freezing import plan
from hw_base.training.gradient_sync import GradientSync

for _name in ("Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "SGD"):
    OPTIMIZERS.register()(getattr(torch.optim, _name))
# LambdaLR and MultiplicativeLR take functions, SequentialLR and ChainedScheduler other schedulers: not for a config.
for _name in (
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "StepLR",
):
    SCHEDULERS.register()(getattr(lr_scheduler, _name))

# Scheduler state restored on resume; the rest of it is configuration, which a resumed run may change.
_PROGRESS = ("last_epoch", "_step_count", "_last_lr", "best", "num_bad_epochs", "cooldown_counter", "T_cur", "T_i")
# Hyper-parameters that schedules change as they go, so that a resumed run takes them from the checkpoint.
_SCHEDULED = ("params", "lr", "betas", "momentum")


class Optimization:
    """Updates one parameter group.

    Args:
        name: of the group.
        network: holds the parameters; frozen ones are left out.
        section: optimizer, schedule and clipping of the config.
        length: how often the schedule will be stepped in the whole run.
        amp_dtype: of the forward pass; only float16 needs a loss scaler.
        device: where the parameters are.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        section: OptimizerSection,
        length: int,
        amp_dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.name = name
        where = f"optimizers.{name}"
        trainable = [key for key, parameter in network.named_parameters() if parameter.requires_grad]
        freezing = plan(where, network, section.train, section.freeze, section.thaw, section.lr_factors)
        named = dict(network.named_parameters())
        for key, parameter in named.items():
            parameter.requires_grad_(key in freezing.trained)
        self.parameters = [named[key] for key in freezing.trained]
        if not self.parameters:
            raise ConfigError(f"{where}: every parameter of this group is frozen")
        self.names = freezing.trained
        self.left_out = {name for name in trainable if name not in freezing.trained}  # by the config, now or always
        self.left_out |= {name for names in freezing.thawed.values() for name in names}
        self._thawed = {epoch: [named[key] for key in names] for epoch, names in freezing.thawed.items()}
        self._factors = freezing.factors
        self._averager = GradientSync(self.parameters) if distributed.active() else None
        self.set_epoch(0)
        self.clip_norm = section.clip_norm
        self.optimizer: torch.optim.Optimizer = _build_optimizer(name, self._groups(section), section)
        self.base_lr = float(self.optimizer.defaults["lr"])
        self.every = section.scheduler.every if section.scheduler else "step"
        self.scheduler = _build_scheduler(name, self.optimizer, section, length)
        self._length = length
        rates = section.model_dump_json(include={"scheduler", "lr_factors"})
        self._schedule = f"{rates} lr={self.base_lr} length={length}"
        kind = device.type if device is not None else "cpu"
        self.scaler = GradScaler(kind) if amp_dtype is torch.float16 else None
        # Fused kernels leave the weights alone when `found_inf` is set: a bad update is skipped without asking the GPU.
        self.skips_on_device = kind == "cuda" and self.scaler is None and bool(self.optimizer.defaults.get("fused"))

    def _groups(self, section: OptimizerSection) -> list[dict[str, Any]]:
        """The parameters by learning rate; one group where all learn at the optimizer's own."""
        by_factor: dict[float, list[nn.Parameter]] = {}
        for key, parameter in zip(self.names, self.parameters, strict=True):
            by_factor.setdefault(self._factors.get(key, 1.0), []).append(parameter)
        if by_factor.keys() == {1.0}:
            return [{"params": self.parameters}]
        rate = section.args.get("lr", inspect.signature(OPTIMIZERS[section.type]).parameters["lr"].default)
        return [{"params": group, "lr": rate * factor} for factor, group in sorted(by_factor.items(), reverse=True)]

    def set_epoch(self, epoch: int) -> None:
        """Freeze what is not trained in this epoch yet, and thaw what is; a frozen one costs no moments."""
        for first, parameters in self._thawed.items():
            for parameter in parameters:
                parameter.requires_grad_(epoch >= first)

    def trained_now(self) -> list[str]:
        """Names of the parameters that are not frozen now."""
        named = zip(self.names, self.parameters, strict=True)
        return [name for name, parameter in named if parameter.requires_grad]

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """Add the gradients of a scalar loss to this group's parameters; those of other groups cost nothing.

        Args:
            loss (Tensor): scalar, of this process's part of the batch.
            last: whether an update follows, for which several processes average what they have accumulated.
        """
        scaled = loss if self.scaler is None else self.scaler.scale(loss)
        own = [parameter for parameter in self.parameters if parameter.requires_grad]
        if not own:  # all of them thaw later
            return
        with self._averager.averaging() if self._averager is not None and last else contextlib.nullcontext():
            torch.autograd.backward(scaled, inputs=own)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def update(self, loss_is_finite: Tensor) -> tuple[Tensor, Tensor]:
        """Clip and step, unless the loss or a gradient is not finite: then the weights and moments stay as they are.

        Args:
            loss_is_finite (Tensor): bool, scalar.

        Returns:
            Norm of the gradients before clipping, and false if loss or gradients were at fault, scalars on the device.
        """
        if self.scaler is not None:
            norm, taken = self._scaled_update(self.scaler, loss_is_finite)
        else:
            norm = self._clip()
            taken = torch.isfinite(norm) & loss_is_finite.to(norm.device)
            if self.skips_on_device:
                self.optimizer.found_inf = (~taken).float()  # type: ignore[attr-defined]
                self.optimizer.step()
            elif bool(taken):
                self.optimizer.step()
        if self.scheduler is not None and self.every == "step":
            self._advance()
        return norm, taken

    def _clip(self) -> Tensor:
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if self.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, self.clip_norm, norm)
        return norm

    def _scaled_update(self, scaler: GradScaler, loss_is_finite: Tensor) -> tuple[Tensor, Tensor]:
        """As `update`, all on the device: to ask for the scale is to wait for the GPU."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not gradients:
            return self._clip(), loss_is_finite
        # The scaler skips an update by its gradients alone.
        gradients[0] += torch.zeros((), device=loss_is_finite.device).masked_fill(~loss_is_finite, math.nan)
        one = torch.ones((), device=loss_is_finite.device)
        before = scaler.scale(one)
        scaler.unscale_(self.optimizer)
        norm = self._clip()
        scaler.step(self.optimizer)
        scaler.update()
        # A loss that is not finite is no overflow of the scale, which must not pay for it.
        scaler.update(torch.where(loss_is_finite, scaler.scale(one), before))
        # An overflow of the scale is how the scale is found; it is a fault only where there is no scale left to lower.
        return norm, loss_is_finite & (torch.isfinite(norm) | (scaler.scale(one) > 1.0))

    def end_epoch(self, epoch: int) -> None:
        """Step a schedule that counts epochs; `epoch` is the one that begins."""
        self.set_epoch(epoch)
        if self.scheduler is not None and self.every == "epoch":
            self._advance()

    def end_evaluation(self, monitored: float) -> None:
        """Step a schedule that follows the monitored value."""
        if self.every == "evaluation" and isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(monitored)

    @property
    def lr(self) -> float:
        """Learning rate of the next update."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Moments, progress of the schedule, loss scale."""
        schedule = self.scheduler.state_dict() if self.scheduler is not None else {}
        return {
            "lr": self.base_lr,
            "schedule": self._schedule,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": {key: schedule[key] for key in _PROGRESS if key in schedule},
            "scaler": self.scaler.state_dict() if self.scaler is not None else None,
        }

    def moments_size(self) -> int:
        """About how many bytes the moments take once every parameter was updated."""
        return sum(
            p.numel() * p.element_size() * sum(dimensions > 0 for dimensions in moments.values())
            for p, moments in zip(self.parameters, self._moments, strict=True)
        )

    @cached_property
    def _moments(self) -> list[dict[str, int]]:
        """What state the optimizer keeps of each parameter: name -> dimensions, 0 for a number."""
        known: dict[torch.Size, dict[str, int]] = {}
        for parameter in self.parameters:
            if parameter.shape not in known:
                known[parameter.shape] = _moments_of(self.optimizer, parameter.shape)
        return [known[parameter.shape] for parameter in self.parameters]

    def load_moments_by_name(self, state: dict[str, Any], names: list[str]) -> None:
        """Take the moments of another optimizer of the same type, by names of parameters.

        A tensor that has more rows here than there gets zeros for the others, which is how moments begin.

        Args:
            state: as `state_dict` gave it.
            names: of the parameters it was for, in its order.
        """
        theirs = {name: state["optimizer"]["state"].get(i, {}) for i, name in enumerate(names)}
        own = self.optimizer.state_dict()
        order = [i for group in own["param_groups"] for i in group["params"]]
        grouped = [p for group in self.optimizer.param_groups for p in group["params"]]
        name_of = {id(p): name for name, p in zip(self.names, self.parameters, strict=True)}
        moments = {i: theirs.get(name_of[id(p)], {}) for i, p in zip(order, grouped, strict=True)}
        own["state"] = {
            i: {key: _rows(value, p) if value.dim() else value for key, value in moments[i].items()}
            for i, p in zip(order, grouped, strict=True)
            if moments[i]
        }
        self.optimizer.load_state_dict(own)

    def load_state_dict(self, state: dict[str, Any], updates: int | None = None, epoch: int | None = None) -> None:
        """Resume from a saved state with the hyper-parameters of *this* config: a changed rate or length counts.

        Args:
            state: as `state_dict` gave it.
            updates: that lie behind, as this config counts them; None is as many as the state says.
            epoch: likewise.

        Raises:
            CheckpointError: the state is of another optimizer, or of other parameters.
        """
        # States of the first edition and imported ones do not say their schedule: it is taken to be this one.
        same = state.get("schedule", self._schedule) == self._schedule
        if self.scheduler is not None and not same:
            stepped = {"step": updates, "epoch": epoch, "evaluation": 0}[self.every]
            for _ in range(state["scheduler"].get("last_epoch", 0) if stepped is None else stepped):
                self._advance()
        scheduled = _SCHEDULED if same or self.every == "evaluation" else _SCHEDULED[:1]
        configured = [{k: v for k, v in g.items() if k != "params"} for g in self.optimizer.param_groups]
        try:
            self.optimizer.load_state_dict(state["optimizer"])
        except ValueError as error:
            raise CheckpointError(f"optimizer {self.name!r}: {error}") from None
        except KeyError as error:  # which torch's Adam looks up
            kind = type(self.optimizer).__name__
            raise CheckpointError(f"optimizer {self.name!r}: the checkpoint has no {error}, {kind} needs it") from None
        for group, own in zip(self.optimizer.param_groups, configured, strict=True):
            group.update({key: value for key, value in own.items() if key not in scheduled or key not in group})
            if "lr" in scheduled and state["lr"] != self.base_lr:
                group["lr"] = group["lr"] * self.base_lr / state["lr"] if state["lr"] else self.base_lr
        self._check_moments()
        if self.scheduler is not None and (same or self.every == "evaluation"):
            progress = {key: value for key, value in state["scheduler"].items() if key in _PROGRESS}
            if "_last_lr" in progress:
                progress["_last_lr"] = [group["lr"] for group in self.optimizer.param_groups]
            # Some schedules want their whole state back, the configured part too.
            self.scheduler.load_state_dict({**self.scheduler.state_dict(), **progress})
        if self.scaler is not None and state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])

    def _check_moments(self) -> None:
        """Whether every parameter has what an update of this optimizer reads: another type's moments are other ones."""
        for parameter, wanted in zip(self.parameters, self._moments, strict=True):
            moments = self.optimizer.state.get(parameter, {})
            found = {str(key): value for key, value in moments.items() if value is not None}
            if not moments:  # never updated
                continue
            if not wanted.keys() <= found.keys():
                names = f"holds {', '.join(found) or 'nothing'}, {type(self.optimizer).__name__} needs"
                raise CheckpointError(f"optimizer {self.name!r}: the checkpoint {names} {', '.join(sorted(wanted))}")
            for key in found.keys() & (wanted.keys() | {"momentum_buffer"}):
                expected = () if wanted.get(key) == 0 else tuple(parameter.shape)
                value = found[key]
                if not isinstance(value, Tensor) or not value.is_floating_point() or tuple(value.shape) != expected:
                    shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                    raise CheckpointError(
                        f"optimizer {self.name!r}: {key} of a parameter is {shape}, expected a tensor {expected}"
                    )
                if bool(torch.isnan(value).any()) or (not expected and not 0 <= float(value) < math.inf):
                    raise CheckpointError(f"optimizer {self.name!r}: {key} of a parameter is not a possible number")

    def _advance(self) -> None:
        """Step the schedule, which ends where the run was to end."""
        if self.scheduler.last_epoch < self._length:
            # torch warns when the first update was skipped; the schedule still follows the steps.
            self.scheduler.optimizer._opt_called = True
            self.scheduler.step()


def _moments_of(optimizer: torch.optim.Optimizer, shape: torch.Size) -> dict[str, int]:
    """What state an optimizer keeps of a parameter of this shape, found by one update of one: name -> dimensions."""
    probe = nn.Parameter(torch.zeros(shape))
    probe.grad = torch.zeros(shape)
    names = inspect.signature(type(optimizer)).parameters
    trial = type(optimizer)([probe], **{k: v for k, v in optimizer.defaults.items() if k in names})
    trial.step()
    moments = {str(name): value.dim() for name, value in trial.state[probe].items() if isinstance(value, Tensor)}
    moments.pop("momentum_buffer", None)  # which torch makes when it is missing
    return moments


def trained_names(network: nn.Module, section: OptimizerSection) -> list[str]:
    """Names of the parameters that an optimizer of this section was given, in its order."""
    with_gradients = [p.requires_grad for p in network.parameters()]
    network.requires_grad_(True)
    freezing = plan("init_from", network, section.train, section.freeze, section.thaw, section.lr_factors)
    for parameter, needed in zip(network.parameters(), with_gradients, strict=True):
        parameter.requires_grad_(needed)
    groups: dict[float, list[str]] = {}
    for name in freezing.trained:
        groups.setdefault(freezing.factors.get(name, 1.0), []).append(name)
    return [name for _, names in sorted(groups.items(), reverse=True) for name in names]


def _rows(moment: Tensor, parameter: Tensor) -> Tensor:
    """The moment with as many rows as the parameter has."""
    missing = parameter.shape[0] - moment.shape[0]
    if moment.shape[1:] != parameter.shape[1:] or missing < 0:
        shapes = f"{tuple(moment.shape)}, the parameter {tuple(parameter.shape)}"
        raise CheckpointError(f"init_optimizers: a moment is {shapes}; start without the moments")
    return torch.cat([moment, moment.new_zeros(missing, *moment.shape[1:])])


def _build_optimizer(name: str, groups: list[dict[str, Any]], section: OptimizerSection) -> Any:
    signature = inspect.signature(OPTIMIZERS[section.type]).parameters
    floating = all(p.is_floating_point() for group in groups for p in group["params"])
    if "fused" in signature and section.args.get("fused") is None and floating:
        # One kernel for all parameters: about three times as fast as the default, on CPU too.
        section = section.model_copy(update={"args": {**section.args, "fused": True, "foreach": None}})
    return build(f"optimizers.{name}", section, OPTIMIZERS, params=groups)


def _build_scheduler(name: str, optimizer: torch.optim.Optimizer, section: OptimizerSection, length: int) -> Any:
    schedule = section.scheduler
    if schedule is None:
        return None
    names = inspect.signature(SCHEDULERS[schedule.type]).parameters
    args = dict(schedule.args)
    rates = [group["lr"] for group in optimizer.param_groups]
    peak = rates[0] if len(rates) == 1 else rates
    for key, value in (("T_max", length), ("total_iters", length), ("max_lr", peak)):
        if key in names and args.get(key) is None:
            args[key] = value
    where = f"optimizers.{name}.scheduler"
    return build(where, schedule.model_copy(update={"args": args}), SCHEDULERS, optimizer=optimizer, total_steps=length)
