"""WER, size and time of exported recognizers: ``python -m benchmarks.export -r CKPT``.

Every recording of the checkpoint's split is recognized by the model in PyTorch, by its graph in ONNX Runtime and by the
graph with 8 bit weights, greedily, one at a time on one thread; times are of the process, the least of three rounds
over the first 20 recordings, features included, as a ratio to PyTorch.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from hw_asr.decoders import GreedyDecoder
from hw_asr.metrics import WER
from hw_asr.recognizer import CTCRecognizer
from hw_base import checkpoint, trained
from hw_base.data.split import Split
from hw_base.exports import making
from hw_base.exports.contract import export_of
from hw_base.exports.quantization import quantized
from hw_base.runs.experiment import Experiment

Posteriors = Callable[[Tensor], Tensor]
TIMED = 20  # recordings


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-r", "--resume", type=Path, required=True)
    parser.add_argument("--split", default="test")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    opened = trained.load(arguments.resume, given=trained.Given(trust=True))
    state = checkpoint.load(arguments.resume)
    experiment = Experiment(opened.config, opened.device, state, arguments.resume, opened.task)
    split = experiment.split(arguments.split, evaluation=True)
    recognizer = opened.task.recognizer(opened.model, opened.device)
    assert isinstance(recognizer, CTCRecognizer)
    rate = recognizer.features.sample_rate
    graph = export_of("asr").graph(opened, None)
    model = making.onnx_model(graph)
    files = {"ONNX Runtime": model.SerializeToString()}
    files["with 8 bit weights"] = quantized(model, graph.float_parts or ()).SerializeToString()
    systems: dict[str, Posteriors] = {"PyTorch": lambda waveform: recognizer.posteriors([waveform], rate)[0]}
    systems |= {name: _posteriors(data) for name, data in files.items()}
    sizes = {"PyTorch": sum(parameter.nbytes for parameter in opened.model.parameters())}
    sizes |= {name: len(data) for name, data in files.items()}
    decoder, first = GreedyDecoder(opened.task.text_encoder), 0.0
    print(f"{len(split.records)} recordings of {arguments.split}\n\n| | MB | WER | time |\n|---|---|---|---|")
    for name, posteriors in systems.items():
        wer = _wer(posteriors, split, decoder)
        waveforms = [split.waveform(i) for i in range(min(TIMED, len(split.records)))]
        seconds = min(_seconds(posteriors, waveforms) for _ in range(3))
        first = first or seconds
        print(f"| {name} | {sizes[name] / 1e6:.1f} | {wer:.4f} | {seconds / first:.2f} |", flush=True)


def _posteriors(data: bytes) -> Posteriors:
    run = making.run_onnx(data, threads=1)

    def posteriors(waveform: Tensor) -> Tensor:
        return run({"waveform": waveform[None], "waveform_length": torch.tensor([len(waveform)])})["log_probs"]

    return posteriors


def _wer(posteriors: Posteriors, split: Split, decoder: GreedyDecoder) -> float:
    metric = WER()
    for i, record in enumerate(split.records):
        log_probs = posteriors(split.waveform(i))
        text = decoder(log_probs, torch.tensor([log_probs.shape[1]]))[0][0].text
        metric.update([record.text], [text])
    return metric.compute()


def _seconds(posteriors: Posteriors, waveforms: list[Tensor]) -> float:
    start = time.process_time()
    for waveform in waveforms:
        posteriors(waveform)
    return time.process_time() - start


if __name__ == "__main__":
    main()
