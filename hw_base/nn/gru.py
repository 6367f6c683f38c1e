"""A GRU on a CPU whose derivative is written out.

`torch.nn.GRU` on a CPU records every frame for automatic differentiation: the gradient of its weights is a sum of as
many small products as there are frames. Here the loop backward holds only what passes from frame to frame, and the
gradients of weights and input are one product each over all frames.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Frames whose derivatives are computed at once: so few that they stay in the processor's cache.
N_FRAMES_AT_ONCE = 4


def computes(rnn: nn.Module, x: Tensor) -> bool:
    """Whether `gru` is made for this layer and input; elsewhere PyTorch's own is as fast or faster.

    Args:
        rnn: any recurrent layer.
        x (Tensor): its input.
    """
    if not isinstance(rnn, nn.GRU) or x.device.type != "cpu" or not x.numel():
        return False
    if torch.compiler.is_compiling():
        return False
    dtype = rnn.get_parameter("weight_hh_l0").dtype
    types = (dtype, _product_type(dtype))
    return types in [(t, t) for t in (torch.float32, torch.float64)] or types == (torch.float32, torch.bfloat16)


def gru(rnn: nn.GRU, x: Tensor) -> Tensor:
    """Run a layer from zero states; equal to ``rnn(x)`` to the precision of its type.

    Under autocast products are of its type, what is kept for the derivative too; the running state is in single
    precision.

    Args:
        rnn: of one layer and one direction, with biases.
        x (Tensor): time first, (T, B, D).

    Returns:
        Tensor: (T, B, H), of the dtype of ``x``.
    """
    (weights,) = rnn.all_weights  # of the input, of the state, and their biases
    return _GRU.apply(x, _product_type(weights[0].dtype), *weights)  # type: ignore[no-untyped-call, no-any-return]


def _product_type(dtype: torch.dtype) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else dtype


class _GRU(torch.autograd.Function):
    """The equations of `torch.nn.GRU`: ``r, z = sigmoid(...)``, ``n = tanh(i + r * c)``, ``h = n + z * (h' - n)``.

    ``i`` is what the input gives to the candidate n, ``c`` what the state before gives to it, biases included.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dtype: torch.dtype, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
    ) -> Tensor:
        n_frames, n_batch = x.shape[:2]
        n_hidden = w_hh.shape[1]
        ctx.dtype = x.dtype
        with torch.autocast("cpu", enabled=False):
            rows, w_ih, w_hh = x.flatten(0, 1).to(dtype), w_ih.to(dtype), w_hh.to(dtype)
            # Candidates are wanted twice: tanh(a) = 2 sigmoid(2 a) - 1, which a CPU computes three times as fast.
            twice = torch.cat([w_ih[: 2 * n_hidden], 2.0 * w_ih[2 * n_hidden :]])
            bias = torch.cat([b_ih[: 2 * n_hidden] + b_hh[: 2 * n_hidden], 2.0 * b_ih[2 * n_hidden :]])
            gates = nn.functional.linear(rows, twice, bias.to(dtype)).view(n_frames, n_batch, -1)
            states, hidden = _run(gates, w_hh, b_hh[2 * n_hidden :])
        ctx.save_for_backward(rows, w_ih, w_hh, gates, states, hidden)
        return states.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dstates: Tensor) -> tuple[Tensor | None, ...]:
        rows, w_ih, w_hh, gates, states, hidden = ctx.saved_tensors
        n_batch, n_hidden = states.shape[1:]
        with torch.autocast("cpu", enabled=False):
            w_hh = torch.cat([w_hh[2 * n_hidden :], w_hh[: 2 * n_hidden]])
            dgates = _run_back(dstates, w_hh, gates, states, hidden).flatten(0, 1)
            by_state, by_input = dgates[:, : 3 * n_hidden], dgates[:, n_hidden:]
            dx = (by_input @ w_ih).view(*states.shape[:2], -1).to(ctx.dtype) if ctx.needs_input_grad[0] else None
            dw_ih = by_input.t() @ rows
            # The state before the first frame is 0.
            dw_hh = by_state[n_batch:].t() @ states[:-1].flatten(0, 1)
            dbias = dgates.sum(0, dtype=torch.promote_types(dgates.dtype, torch.float32))
        dw_hh, db_hh = (torch.cat([g[n_hidden:], g[:n_hidden]]) for g in (dw_hh, dbias[: 3 * n_hidden]))
        return dx, None, dw_ih.to(dbias.dtype), dw_hh.to(dbias.dtype), dbias[n_hidden:], db_hh


def _run(gates: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The loop forward.

    Args:
        gates (Tensor): what the input gives to r, z and (twice) n, (T, B, 3 H); r, z and n afterwards.
        weight (Tensor): of the states, (3 H, H).
        bias (Tensor): of ``c``, (H,), of the precision of the running state.

    Returns:
        tuple: states and ``c``, both (T, B, H), of the dtype of ``gates``.
    """
    n_frames, n_batch, _ = gates.shape
    n_hidden = len(bias)
    states, hidden = (gates.new_empty(n_frames, n_batch, n_hidden) for _ in range(2))
    cast = gates.dtype != bias.dtype
    work, product, state = (bias.new_zeros(n_batch, n * n_hidden) for n in (3, 3, 1))
    result = product.to(gates.dtype) if cast else product  # the first state, 0, gives 0
    turned, minus_one = weight.t(), bias.new_tensor(-1.0)
    both, rest = product[:, : 2 * n_hidden], product[:, 2 * n_hidden :]
    every = _columns(work[None].expand_as(gates) if cast else gates, n_hidden)
    frames = zip(gates.unbind(), states.unbind(), hidden.unbind(), *every, strict=True)
    before = None
    for gate, after, c, r_and_z, r, z, n in frames:
        if before is not None:
            torch.mm(before, turned, out=result)
        if cast:
            work.copy_(gate)
            product.copy_(result)
        r_and_z.add_(both).sigmoid_()
        kept = torch.add(rest, bias, out=rest if cast else c)
        n.addcmul_(r, kept, value=2.0).sigmoid_()
        torch.add(minus_one, n, alpha=2.0, out=n)
        state = torch.lerp(n, state, z, out=state if cast else after)
        if cast:
            gate.copy_(work)
            after.copy_(state)
            c.copy_(kept)
        before = after
    return states, hidden


def _columns(gates: Tensor, n_hidden: int) -> list[tuple[Tensor, ...]]:
    """Of each frame: r and z together, r, z and n."""
    edges = [(0, 2), (0, 1), (1, 2), (2, 3)]
    return [gates[..., first * n_hidden : last * n_hidden].unbind() for first, last in edges]


def _run_back(dstates: Tensor, weight: Tensor, gates: Tensor, states: Tensor, hidden: Tensor) -> Tensor:
    """The loop backward.

    Args:
        dstates (Tensor): gradient of the output, (T, B, H).
        weight (Tensor): of the states, rows of n, r, z, (3 H, H).
        gates (Tensor): r, z and n, (T, B, 3 H).
        states (Tensor): (T, B, H).
        hidden (Tensor): ``c``, (T, B, H).

    Returns:
        Tensor: gradients of ``c``, of r and z before their sigmoids, and of ``i``, (T, B, 4 H), so that what belongs to
        states and to input lies side by side.
    """
    n_frames, n_batch, n_hidden = states.shape
    dgates = gates.new_empty(n_frames, n_batch, 4 * n_hidden)
    dtype = torch.promote_types(gates.dtype, torch.float32)
    dstate, carry = (gates.new_zeros(n_batch, n_hidden, dtype=dtype) for _ in range(2))
    # A few rows times a matrix are fastest where the matrix lies transposed.
    turned = weight.t().contiguous().t()
    cast = gates.dtype != dtype
    for last in range(n_frames, 0, -N_FRAMES_AT_ONCE):
        first = max(last - N_FRAMES_AT_ONCE, 0)
        gate, c = gates[first:last].to(dtype), hidden[first:last].to(dtype)
        before = states[max(first - 1, 0) : last - 1].to(dtype)
        if first == 0:
            before = torch.cat([torch.zeros_like(c[:1]), before])
        block = dgates[first:last]
        slopes = _slopes(torch.empty_like(block, dtype=dtype) if cast else block, gate, c, before)
        by_gate, update = slopes.view(-1, n_batch, 4, n_hidden), gate[..., n_hidden : 2 * n_hidden]
        by_state = block[..., : 3 * n_hidden]
        for t in range(last - first - 1, -1, -1):
            dstate.copy_(dstates[first + t]).add_(carry)
            by_gate[t].mul_(dstate[:, None])
            torch.mul(dstate, update[t], out=carry)
            if cast:
                block[t].copy_(slopes[t])
                carry.add_(by_state[t] @ turned)
            else:
                carry.addmm_(by_state[t], turned)
    return dgates


def _slopes(out: Tensor, gate: Tensor, c: Tensor, before: Tensor) -> Tensor:
    """Derivatives of frames' states by ``c``, by r and z before their sigmoids, and by ``i``: ``out``, (T, B, 4 H)."""
    r, z, n = gate.chunk(3, -1)
    by_c, by_r, by_z, by_i = out.chunk(4, -1)
    torch.addcmul(n.new_ones(()), n, n, value=-1.0, out=by_i)
    by_i.addcmul_(by_i, z, value=-1.0)
    torch.mul(by_i, r, out=by_c)
    torch.mul(by_c, c, out=by_r)
    by_r.addcmul_(by_r, r, value=-1.0)
    torch.sub(before, n, out=by_z).mul_(z)
    by_z.addcmul_(by_z, z, value=-1.0)
    return out
