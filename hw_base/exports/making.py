"""A graph made: by ``torch.export``, and from that ONNX; both are run and compared before they are given back."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hw_base.errors import ConfigError, MissingPackageError
from hw_base.exports.contract import Graph, Tensors
from hw_base.exports.recurrent import OPSET, with_exported_recurrence

log = logging.getLogger(__name__)

# Largest difference to the model that a graph may have in any value.
TOLERANCE = 1e-4
# Under this name a file holds the metadata, as JSON.
METADATA = "hw_speech"
# Inputs by name -> outputs by name.
Run = Callable[[Tensors], dict[str, Tensor]]


def onnx_model(graph: Graph) -> Any:
    """The graph as ``onnx.ModelProto``.

    Raises:
        ConfigError: torch cannot export it.
        MissingPackageError: a package is not installed.
    """
    onnx = package("onnx")
    package("onnxscript")
    package("onnxruntime")
    program = _exported(graph, with_exported_recurrence(graph.network))
    with _plainly("ONNX"), _for_any_size():
        names = {"input_names": list(graph.axes), "output_names": list(graph.outputs)}
        made = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False, **names)  # type: ignore[arg-type]
        model = made.model_proto  # type: ignore[union-attr]
    for properties in (model.metadata_props, model.graph.metadata_props, *(n.metadata_props for n in model.graph.node)):
        del properties[:]  # of the exporter, among them the paths of source files
    onnx.helper.set_model_props(model, {METADATA: json.dumps(graph.metadata)})
    return model


def exported_program(graph: Graph) -> bytes:
    """The graph as a file of ``torch.export``.

    Raises:
        ConfigError: torch cannot export it.
    """
    program, buffer = _exported(graph, graph.network), io.BytesIO()
    with _plainly("torch.export"):
        torch.export.save(program, buffer, extra_files={METADATA: json.dumps(graph.metadata)})
    return buffer.getvalue()


def run_program(data: bytes, graph: Graph) -> Run:
    """What runs a file of ``torch.export``."""
    with _plainly("torch.export"):
        opened = torch.export.load(io.BytesIO(data)).module()
    return lambda case: dict(zip(graph.outputs, opened(*(case[name] for name in graph.axes)), strict=True))


def run_onnx(model: bytes, threads: int = 0) -> Run:
    """What runs an ONNX file, with onnxruntime on the CPU; 0 threads is as many as it likes."""
    runtime = package("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, threads
    opened = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in opened.get_outputs()]
    needed = {value.name for value in opened.get_inputs()}

    def run(case: Tensors) -> dict[str, Tensor]:
        feed = {name: value.numpy() for name, value in case.items() if name in needed}
        return {name: torch.from_numpy(value) for name, value in zip(names, opened.run(None, feed), strict=True)}

    return run


@torch.no_grad()
def differences(graph: Graph, run: Run, tolerance: float = TOLERANCE) -> tuple[float, float]:
    """Compare with the model itself on every case.

    Args:
        graph: with its cases.
        run: the graph that was made.
        tolerance: largest difference in any value.

    Returns:
        largest and mean absolute difference of all values.

    Raises:
        ConfigError: the largest is above the tolerance, or a shape or a whole number differs.
    """
    largest, total, count = 0.0, 0.0, 0
    for case in graph.cases:
        sizes = ", ".join(f"{name} {list(value.shape)}" for name, value in case.items() if value.dim())
        with _plainly(f"the exported graph on {sizes}"):
            found = run(case)
        for name, wanted in graph.expected(case).items():
            got = found[name]
            if got.shape != wanted.shape or (not wanted.is_floating_point() and not torch.equal(got, wanted)):
                raise ConfigError(
                    f"the exported graph differs from the model on {sizes}: {name} is {_short(got)} instead of "
                    f"{_short(wanted)}; nothing is written"
                )
            if wanted.is_floating_point() and wanted.numel():
                difference = (got - wanted).abs()
                largest = max(largest, float(difference.max().nan_to_num(torch.inf)))
                total, count = total + float(difference.sum()), count + difference.numel()
        if not largest <= tolerance:
            raise ConfigError(
                f"the exported graph differs from the model by {largest:.2g} on {sizes}; at most {tolerance:g} is "
                "accepted, nothing is written"
            )
    return largest, total / max(count, 1)


def package(name: str) -> Any:
    """An optional package.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        return __import__(name)
    except ImportError as error:
        raise MissingPackageError("hw_base.export", name) from error


def _exported(graph: Graph, network: nn.Module) -> torch.export.ExportedProgram:
    example = tuple(graph.cases[0][name] for name in graph.axes)
    free = [dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in graph.axes.values()]
    with _plainly("torch.export"), _for_any_size():
        return torch.export.export(network.eval(), example, dynamic_shapes=(tuple(free),), strict=False)


@contextlib.contextmanager
def _for_any_size() -> Iterator[None]:
    """Without what chooses by size or lays out memory in its own way: fused attention, and oneDNN's convolutions."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False):
        yield


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without what the libraries print and warn of."""
    # onnxruntime's advice to preprocess is logged by the root logger, None.
    loggers = [logging.getLogger(name) for name in (None, "torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _plainly(what: str) -> Iterator[None]:
    """Errors of the libraries in one line, without what they print beside it.

    Raises:
        ConfigError: in place of any error.
    """
    try:
        with quietly():
            yield
    except Exception as error:  # of three libraries, whose kinds of errors are their own
        log.debug("%s failed", what, exc_info=True)
        while type(error).__name__ == "ConversionError" and error.__cause__ is not None:
            error = error.__cause__  # type: ignore[assignment]
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")[:300]
        raise ConfigError(f"{what} does not work for this model: {type(error).__name__}: {reason}") from error


def _short(value: Tensor) -> str:
    return f"{value.flatten()[:8].tolist()} of shape {list(value.shape)}"
