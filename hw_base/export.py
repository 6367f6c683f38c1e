# PYTHON_ARGCOMPLETE_OK
"""A checkpoint as one file that runs without this project: ``python -m hw_base.export -r CKPT -o model.onnx``."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hw_base import storage, task_packages, trained
from hw_base.errors import ConfigError
from hw_base.exports import making
from hw_base.exports.contract import Graph, export_of
from hw_base.exports.quantization import quantized
from hw_base.runs import cli
from hw_base.runs.folder import best_checkpoint
from hw_base.runs.parser import Parser

SUFFIXES = (".onnx", ".pt2")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = Parser(
        "python -m hw_base.export",
        "Write a checkpoint as one file that runs without this project, verified against the model.",
        [
            "-r runs/asr -o model.onnx",
            "-r runs/asr -o model.onnx --int8",
            "-r runs/tts --vocoder runs/hifigan -o voice.onnx",
        ],
    )
    parser.add_argument("-r", "--resume", metavar="CKPT", required=True, help="checkpoint, run folder or address")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, required=True, help="*.onnx, or *.pt2 for torch.export"
    )
    parser.add_argument("--vocoder", metavar="CKPT", help="a HiFiGAN, for models that make spectrograms")
    parser.add_argument("--int8", action="store_true", help="weights of 8 bits, for recognizers in ONNX")
    cli.add_import(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        if arguments.output.suffix not in SUFFIXES:
            raise ConfigError(f"-o {arguments.output}: the name must end in {' or '.join(SUFFIXES)}")
        path = best_checkpoint(arguments.resume)
        vocoder = None if arguments.vocoder is None else best_checkpoint(arguments.vocoder)
        print(export(path, arguments.output, vocoder, arguments.int8))
        return 0

    return cli.run(work, arguments.imports)


def export(path: Path, output: Path, vocoder: Path | None = None, int8: bool = False) -> str:
    """Write a graph once it gives what the model gives; what was written, in a line.

    Args:
        path: of the checkpoint.
        output: ``.onnx`` or ``.pt2``; what is there is replaced as a whole.
        vocoder: of models that make spectrograms.
        int8: 8 bit weights.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ConfigError: it has no such graph, the graph differs from the model, or the file cannot be written.
        MissingPackageError: onnx, onnxscript or onnxruntime is not installed.
    """
    onnx = output.suffix == ".onnx"
    if onnx:  # before the work begins
        for name in ("onnx", "onnxscript", "onnxruntime"):
            making.package(name)
    task = trained.read(path)["config"].get("task")
    task_packages.import_task(task)
    part = export_of(task)
    graph = part.graph(trained.load(path), vocoder)
    if int8 and (graph.float_parts is None or not onnx):
        raise ConfigError("--int8: only for recognizers, and only in a file *.onnx")
    data, said = _onnx(graph, int8) if onnx else _program(graph)
    try:
        with storage.replacing(output) as scratch:
            scratch.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"-o {output}: cannot be written: {error.strerror}") from None
    ends = f"inputs {', '.join(graph.axes)}; outputs {', '.join(graph.outputs)}"
    return f"{output}: {len(data) / 1e6:.1f} MB, {said}; {ends}"


def _onnx(graph: Graph, int8: bool) -> tuple[bytes, str]:
    model = making.onnx_model(graph)
    data: bytes = model.SerializeToString()
    said = _verified(graph, making.run_onnx(data))
    if int8:
        data = quantized(model, graph.float_parts or ()).SerializeToString()
        _, mean = making.differences(graph, making.run_onnx(data), tolerance=float("inf"))
        said += f"; with 8 bit weights it differs by {mean:.2g} on average"
    return data, said


def _program(graph: Graph) -> tuple[bytes, str]:
    data = making.exported_program(graph)
    return data, _verified(graph, making.run_program(data, graph))


def _verified(graph: Graph, run: making.Run) -> str:
    largest, _ = making.differences(graph, run)
    return f"differs from the model by at most {largest:.1g} on {len(graph.cases)} inputs"


if __name__ == "__main__":
    sys.exit(main())
