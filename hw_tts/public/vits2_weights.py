"""The files of the public MB-iSTFT-VITS2 program: read, known by what they hold, checked before anything is taken."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hw_base import checkpoint
from hw_base.errors import CheckpointError

PREFIXES = {"generator": "G", "discriminator": "D", "duration_discriminator": "DUR"}
NORM_NAMES = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
# A tensor that only this network has -> the network, and how many axes the tensor has.
_MARKS = {
    "enc_p.emb.weight": ("generator", 2),
    "discriminators.0.conv_post.weight_v": ("discriminator", 3),
    "dur_proj.weight": ("duration_discriminator", 3),
}
# Constants that the public program saves among the weights: zeros between the samples of multi-stream decoders.
UPDOWN = "dec.updown_filter"
_NUMBERED = re.compile(r"(?:G|D|DUR)_(\d+)\.pth")


def public_name(name: str) -> str:
    """The name of a tensor in a public checkpoint."""
    for ours, theirs in NORM_NAMES.items():
        name = name.replace(ours, theirs)
    return name


@dataclass(frozen=True)
class PublicFile:
    """One file.

    Attributes:
        path: of it, for messages.
        weights: public name -> tensor, in the order by which the optimizer numbers its parameters.
        epoch: completed ones; the program calls it ``iteration``.
        learning_rate: of the config that it was trained by; None if it is not known.
        state: parameter number -> moments; None where the file has no optimizer.
        settings: of the optimizer's only group; its ``lr`` is the rate of the next update.
    """

    path: Path
    weights: dict[str, Tensor]
    epoch: int
    learning_rate: float | None
    state: dict[int, dict[str, Any]] | None
    settings: dict[str, Any]


def read(files: Sequence[Path]) -> dict[str, PublicFile]:
    """The files by the network that they hold.

    Raises:
        CheckpointError: a file is hostile, damaged or of another kind, or none of them is a generator's.
    """
    found: dict[str, PublicFile] = {}
    for path in files:
        group, file = _read_one(path)
        if group in found:
            raise CheckpointError(f"{path}: a second {group.replace('_', ' ')}; give one file of each kind")
        found[group] = file
    if "generator" not in found:
        raise CheckpointError("none of the files is a generator's (G_<step>.pth), and nothing works without it")
    return found


def n_speakers_of(generator: PublicFile) -> int:
    """Rows of the table of speakers; 1 where there is no table."""
    table = generator.weights.get("emb_g.weight")
    return 1 if table is None or table.dim() != 2 else len(table)


def step_of(files: Sequence[Path]) -> int:
    """The step in the files' names; 0 if they are named otherwise."""
    return max((int(match[1]) for path in files if (match := _NUMBERED.fullmatch(path.name))), default=0)


def _read_one(path: Path) -> tuple[str, PublicFile]:
    content = checkpoint.load_untrusted(path)
    weights = content.get("model") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()
    ):
        raise CheckpointError(f"{path}: not a public checkpoint: it has no table of tensors named 'model'")
    weights = {key.removeprefix("module."): value for key, value in weights.items()}
    _drop_constants(path, weights)
    mark = next((mark for mark in _MARKS if mark in weights), None)
    if mark is None:
        raise CheckpointError(f"{path}: holds neither a generator nor a discriminator: {sorted(weights)[:3]} ...")
    group, n_axes = _MARKS[mark]
    if weights[mark].dim() != n_axes:
        raise CheckpointError(f"{path}: {mark} is {tuple(weights[mark].shape)}, expected {n_axes} axes")
    epoch, rate = content.get("iteration", 0), content.get("learning_rate")
    if not isinstance(epoch, int) or epoch < 0:
        raise CheckpointError(f"{path}: iteration: expected the number of its epoch, found {epoch!r}")
    if rate is not None and not _is_rate(rate):
        raise CheckpointError(f"{path}: learning_rate: expected a positive number, found {rate!r}")
    state, settings = _optimizer(path, content.get("optimizer"), list(weights.values()))
    return group, PublicFile(path, weights, epoch, rate, state, settings)


def updown_filter(n_streams: int) -> Tensor:
    """The constant that upsamples the streams of a multi-stream decoder by zeros, (M, M, M)."""
    constant = torch.zeros(n_streams, n_streams, n_streams)
    constant[range(n_streams), range(n_streams), 0] = 1.0
    return constant


def _drop_constants(path: Path, weights: dict[str, Tensor]) -> None:
    """Leave out buffers that this project computes, after a look at what they hold.

    Raises:
        CheckpointError: another constant than this project's.
    """
    found = weights.pop(UPDOWN, None)
    if found is None:
        return
    if found.dim() != 3 or len(set(found.shape)) != 1 or not torch.equal(found.float(), updown_filter(len(found))):
        raise CheckpointError(f"{path}: {UPDOWN} {tuple(found.shape)} is not the filter that spreads streams by zeros")


def _optimizer(path: Path, found: Any, weights: list[Tensor]) -> tuple[dict[int, dict[str, Any]] | None, Any]:
    """Moments by number of the parameter, and settings, both checked against the weights."""
    if not found:
        return None, {}
    where = f"{path}: optimizer"
    state, groups = (found.get(key) if isinstance(found, dict) else None for key in ("state", "param_groups"))
    if not isinstance(state, dict) or not isinstance(groups, list) or len(groups) != 1:
        raise CheckpointError(f"{where}: expected a state and one group of parameters, as the public program has them")
    (settings,) = groups
    numbers = settings.get("params") if isinstance(settings, dict) else None
    if not isinstance(numbers, list) or len(numbers) != len(weights) or not _is_rate(settings.get("lr")):
        raise CheckpointError(f"{where}: expected a rate and the {len(weights)} parameters of the model in its group")
    for number, moments in state.items():
        fits = isinstance(number, int) and 0 <= number < len(weights) and isinstance(moments, dict)
        tensors = [moments.get(key) for key in ("exp_avg", "exp_avg_sq")] if fits else []
        if not fits or not all(isinstance(t, Tensor) and t.shape == weights[number].shape for t in tensors):
            raise CheckpointError(f"{where}: the moments numbered {number!r} fit no tensor of the model")
    return state, settings


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def load(networks: Mapping[str, nn.Module], found: Mapping[str, PublicFile]) -> None:
    """Take over the weights of all files into the networks; without a file they stay as they are.

    Raises:
        CheckpointError: every tensor that is missing, unexpected, of another shape or not finite, one line each.
    """
    problems: list[str] = []
    for group, file in found.items():
        own = {public_name(key): value.shape for key, value in networks[group].state_dict().items()}
        problems += [f"{file.path}: {line}" for line in _differences(file.weights, own)]
    if problems:
        raise CheckpointError("\n".join(problems))
    for group, file in found.items():
        names = {public_name(key): key for key in networks[group].state_dict()}
        networks[group].load_state_dict({names[theirs]: value for theirs, value in file.weights.items()})


def _differences(weights: Mapping[str, Tensor], own: Mapping[str, torch.Size]) -> list[str]:
    lines = [f"{key} is missing" for key in own if key not in weights]
    lines += [f"{key} is not part of the model" for key in weights if key not in own]
    shared = [key for key in own if key in weights]
    lines += [
        f"{key} is {tuple(weights[key].shape)}, the config makes it {tuple(own[key])}"
        for key in shared
        if weights[key].shape != own[key]
    ]
    return lines + [f"{key} is not finite" for key in shared if not bool(torch.isfinite(weights[key]).all())]
