"""Recurrent layers as one operator of ONNX, which runs each utterance inside its own length."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from hw_base.nn.layers import BiRNN

# Where each gate of torch stands in ONNX: z r h of r z n, and i o f c of i f g o.
_ORDER = {"GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2), "RNN": (0,)}
OPSET = 20


class ExportedBiRNN(nn.Module):
    """A `BiRNN` as the operator GRU, LSTM or RNN: both directions at once, the padding left out by its lengths.

    Args:
        layer: whose weights are copied.
    """

    weight: Tensor
    recurrence: Tensor
    bias: Tensor

    def __init__(self, layer: BiRNN) -> None:
        super().__init__()
        cells = (layer.forward_rnn, layer.backward_rnn)
        self.kind = cells[0].mode.removesuffix("_RELU").removesuffix("_TANH")
        self.n_hidden, self.combine = cells[0].hidden_size, layer.combine
        # linear_before_reset: torch's GRU multiplies by the reset gate behind the recurrent product.
        self.attributes: dict[str, Any] = {"hidden_size": self.n_hidden, "direction": "bidirectional"}
        if self.kind == "GRU":
            self.attributes["linear_before_reset"] = 1
        if cells[0].mode == "RNN_RELU":
            self.attributes["activations"] = ["Relu", "Relu"]
        for name, source in (("weight", "weight_ih_l0"), ("recurrence", "weight_hh_l0")):
            self.register_buffer(name, torch.stack([self._ordered(getattr(cell, source)) for cell in cells]))
        biases = [[self._ordered(getattr(cell, f"bias_{part}_l0")) for part in ("ih", "hh")] for cell in cells]
        self.register_buffer("bias", torch.stack([torch.cat(pair) for pair in biases]))

    def _ordered(self, values: Tensor) -> Tensor:
        gates = values.detach().chunk(len(_ORDER[self.kind]))
        return torch.cat([gates[place] for place in _ORDER[self.kind]])

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """See `BiRNN.forward`."""
        n_batch, n_frames, _ = x.shape
        y: Tensor = torch.onnx.ops.symbolic(
            self.kind,
            (x.transpose(0, 1), self.weight, self.recurrence, self.bias, length.int()),
            attrs=self.attributes,
            dtype=x.dtype,
            shape=(n_frames, 2, n_batch, self.n_hidden),
            version=OPSET,
        )
        if self.combine == "sum":
            return y.sum(dim=1).transpose(0, 1)
        return y.permute(2, 0, 1, 3).flatten(2)


def with_exported_recurrence(network: nn.Module) -> nn.Module:
    """A copy whose bidirectional layers are `ExportedBiRNN`; it cannot be run, only exported."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, BiRNN):
                setattr(module, name, ExportedBiRNN(child))
    return network
