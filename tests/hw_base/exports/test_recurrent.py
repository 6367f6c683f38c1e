"""Recurrent layers as one operator of ONNX give what `BiRNN` gives, inside each utterance's own length."""

import pytest
import torch

from hw_asr.models.deepspeech import RectifiedBiRNN
from hw_base.exports import making
from hw_base.exports.contract import Graph
from hw_base.nn.layers import BiRNN

pytest.importorskip("onnxruntime", reason="runs exported models")
pytest.importorskip("onnxscript", reason="exports models")


class Outer(torch.nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, *inputs):
        return (self.rnn(*inputs),)


@pytest.mark.parametrize("kind", ["gru", "lstm", "relu"])
def test_an_exported_layer_gives_what_the_layer_gives(kind):
    torch.manual_seed(0)
    rnn = RectifiedBiRNN(5) if kind == "relu" else BiRNN(5, 7, kind, "sum" if kind == "gru" else "concat")
    sizes = [(13, [13, 4]), (6, [6]), (50, [1, 50, 49]), (1, [1])]
    cases = [{"x": torch.randn(len(n), size, 5), "length": torch.tensor(n)} for size, n in sizes]
    graph = Graph(
        Outer(rnn),
        {"x": {0: "batch", 1: "frames"}, "length": {0: "batch"}},
        ["y"],
        cases,
        lambda case: {"y": rnn(case["x"], case["length"])},
    )
    model = making.onnx_model(graph)
    assert sum(node.op_type in ("GRU", "LSTM", "RNN") for node in model.graph.node) == 1
    assert making.differences(graph, making.run_onnx(model.SerializeToString()), 1e-5)[0] > 0
