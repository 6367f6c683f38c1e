"""A model to give away: one safetensors file with the weights, and all that is needed to use them in its header.

Weights stand under their own names, so that any program can read them. What else a checkpoint holds to use a model
(config, vocabulary, speakers) is JSON in the header; tensors among it are kept beside the weights.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from hw_base import storage
from hw_base.errors import CheckpointError, MissingPackageError

SUFFIX = ".safetensors"
NAME = f"model{SUFFIX}"
# The parts of a checkpoint that are given away.
PARTS = ("config", "packages", "text_encoder", "task", "step")
_HEADER = "hw_speech"
_TENSOR = "tensor:"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the parts of a checkpoint that are needed to use its model.

    Args:
        path: of the file, ``.safetensors``.
        state: as a checkpoint holds it.

    Raises:
        CheckpointError: it cannot be written, or holds what JSON cannot.
        MissingPackageError: safetensors is not installed.
    """
    to_bytes = _safetensors().torch.save
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state["model"].items()}
    rest = _plain({key: state[key] for key in PARTS if key in state}, "state", tensors)
    try:
        with storage.replacing(path) as scratch:
            # The library's own files can be read by their owner alone.
            scratch.write_bytes(to_bytes(tensors, {_HEADER: json.dumps(rest), "format": "pt"}))
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not written: {error}") from error


def load(path: Path) -> dict[str, Any]:
    """What `save` was given: ``model`` and `PARTS`. A safetensors file holds no code.

    Raises:
        CheckpointError: missing, damaged, or not written by `save`.
        MissingPackageError: safetensors is not installed.
    """
    safe_open = _safetensors().safe_open
    try:
        with safe_open(path, framework="pt") as file:
            rest = json.loads((file.metadata() or {})[_HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        state = _filled(rest, tensors)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except KeyError:
        raise CheckpointError(f"{path}: a safetensors file, but not one that hw_base.publish wrote") from None
    except Exception as error:  # of the library, whose kinds of errors are its own, and of JSON
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise CheckpointError(f"{path}: not a readable safetensors file: {reason}") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: a safetensors file, but not one that hw_base.publish wrote")
    return {**state, "model": tensors}


def _safetensors() -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise MissingPackageError("a published model", "safetensors") from error
    return safetensors


def _plain(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """A copy in which each tensor is replaced by its name, under which it is added to `tensors`."""
    if isinstance(value, Tensor):
        tensors[where] = value.detach().cpu().contiguous().clone()
        return _TENSOR + where
    if isinstance(value, dict):
        return {key: _plain(item, f"{where}/{key}", tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}/{i}", tensors) for i, item in enumerate(value)]
    return value


def _filled(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The reverse of `_plain`; the tensors of the state are taken out of `tensors`."""
    if isinstance(value, str) and value.startswith(_TENSOR + "state/"):
        return tensors.pop(value.removeprefix(_TENSOR))
    if isinstance(value, dict):
        return {key: _filled(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, tensors) for item in value]
    return value
