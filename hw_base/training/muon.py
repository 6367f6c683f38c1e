"""Muon: momentum whose update of a matrix is made nearly orthogonal."""

from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from hw_base.config.schema import Size
from hw_base.registry import OPTIMIZERS

# Jordan et al. 2024: a x + b x^3 + c x^5, repeated, drives singular values between 0 and 1 to between 0.7 and 1.2; it
# more than triples small ones each time.
_A, _B, _C = 3.4445, -4.7750, 2.0315
# Liu et al. 2025, section 2.2: an orthogonal update of this scale is about as large as AdamW's at the same rate.
_SCALE = 0.2

# A matrix with more rows, or taller than wide, is cut into pieces of equal height: beside the products of a batch of
# thousands of frames those of a piece are few.
_ROWS = 256

Rate = Annotated[float, Field(ge=0, lt=1)]


@OPTIMIZERS.register()
class Muon(torch.optim.Optimizer):
    """Muon for matrices, AdamW for everything else.

    The momentum of a matrix is replaced by a matrix with the same singular vectors and singular values near 1, so that
    rare directions are learned as fast as frequent ones (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon;
    weight decay and scale are those of Liu et al. 2025, "Muon is Scalable for LLM Training", arXiv 2502.16982, eq. 4).
    The kernels of a convolution are a matrix with a row for each output channel. A network needs fewer steps than with
    AdamW; each step takes a few matrix products more for every matrix, whatever the batch.

    Args:
        params: parameters, or groups of them.
        lr: of both kinds; the best is often two to three times AdamW's.
        momentum: of matrices.
        betas: of AdamW's moments.
        eps: of AdamW.
        weight_decay: decoupled, of both kinds.
        smallest: matrices with fewer rows or columns are left to AdamW: heads of few letters, first convolutions.
        iterations: of the polynomial that makes an update orthogonal (Newton-Schulz); fewer are cheaper and less exact.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: PositiveFloat = 0.003,
        momentum: Rate = 0.95,
        betas: tuple[Rate, Rate] = (0.9, 0.98),
        eps: PositiveFloat = 1e-8,
        weight_decay: NonNegativeFloat = 0.01,
        smallest: Size = 32,
        iterations: Annotated[int, Field(ge=1, le=20)] = 4,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"smallest": smallest, "iterations": iterations})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update.

        Args:
            closure: computes the loss and the gradients anew.

        Returns:
            What `closure` returns.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                shape = parameter.flatten(1).shape if parameter.dim() > 1 else parameter.shape
                if parameter.dim() > 1 and min(shape) >= group["smallest"]:
                    by_shape.setdefault(shape, []).append(parameter)
                else:
                    self._adam(parameter, group)
            for shape, matrices in by_shape.items():
                self._orthogonal(matrices, shape, group)
        return loss

    def _orthogonal(self, matrices: list[nn.Parameter], shape: torch.Size, group: dict[str, Any]) -> None:
        """Update matrices of one shape, (M, N), together: many small products would keep a GPU waiting."""
        updates = []
        for parameter in matrices:
            state, gradient = self.state[parameter], parameter.grad
            assert gradient is not None
            if not state:
                state["exp_avg"] = torch.zeros_like(parameter)
            average = state["exp_avg"].lerp_(gradient, 1 - group["momentum"])
            updates.append(gradient.lerp(average, group["momentum"]).view(shape))
        rows, columns = shape
        # The cost grows with the square of a piece's rows. The gates of a recurrence stand one above the other anyway.
        pieces = next(k for k in range(1, rows + 1) if rows % k == 0 and rows // k <= min(columns, _ROWS))
        pieces = pieces if rows // pieces >= group["smallest"] else 1
        stacked = torch.stack(updates).view(-1, rows // pieces, columns)
        step = _SCALE * max(rows // pieces, columns) ** 0.5 * group["lr"]
        whole = orthogonal(stacked, group["iterations"]).reshape(-1, rows, columns)
        for parameter, update in zip(matrices, whole, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update.view_as(parameter), alpha=step)

    def _adam(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        """Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization" (arXiv 1711.05101), algorithm 2."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        steps, (first, second) = int(state["step"]), group["betas"]
        mean = state["exp_avg"].lerp_(gradient, 1 - first)
        square = state["exp_avg_sq"].lerp_(gradient.square(), 1 - second)
        size = (square / (1 - second**steps)).sqrt_().add_(group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.addcdiv_(mean, size, value=-group["lr"] / (1 - first**steps))


def orthogonal(x: Tensor, iterations: int) -> Tensor:
    """Matrices with the singular vectors of ``x`` and singular values near 1.

    Args:
        x (Tensor): (K, M, N), float.
        iterations: each triples small singular values; four do as much as the published five, which scale less well.

    Returns:
        Tensor: (K, M, N); 0 where x is 0.
    """
    # The product of a matrix with its transpose should have the shorter side.
    if x.shape[-2] > x.shape[-1]:
        return orthogonal(x.mT, iterations).mT
    square = x @ x.mT
    # The fourth root of the sum of fourth powers of the singular values: never below the largest, and far nearer to it
    # than the Frobenius norm, which saves an iteration.
    norm = square.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-30)
    x, square = x / norm.sqrt(), square / norm
    for i in range(iterations):
        if i:
            square = x @ x.mT
        polynomial = torch.baddbmm(square, square, square, beta=_B, alpha=_C)
        x = torch.baddbmm(x, polynomial, x, beta=_A)
    return x
