"""What a checkpoint must be before anything is made of it: one archive, dense tensors, parts of the right kind.

A checkpoint may come from anybody. `hw_base.checkpoint` asks these three questions in this order, before its content is
read, after it is read, and of what is used.
"""

import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, ValidationError
from torch import Tensor, nn

from hw_base.errors import CheckpointError

MAX_DEPTH = 64
MAX_VALUES = 500_000
# More than any run has; what is counted beyond it would overflow on its way into tensors.
_MOST = 2**53
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LONGEST_COMMENT = 2**16


# ---------------------------------------------------------------- the archive


def check_archive(path: Path) -> None:
    """Refuse archives that two readers could understand differently, or that grow when they are read.

    Raises:
        CheckpointError: compressed records, records larger than the file or twice under one name, a second directory.
        zipfile.BadZipFile: no archive at all.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    if any(r.compress_type != zipfile.ZIP_STORED for r in records):
        raise CheckpointError(f"{path}: refused, it has compressed records (a small file could fill the memory)")
    if sum(r.file_size for r in records) > size:
        raise CheckpointError(f"{path}: refused, its records claim to be larger than the file")
    if len({r.filename for r in records}) < len(records):
        raise CheckpointError(f"{path}: refused, two of its records have one name")
    if not _directory_is_last(path, size):
        raise CheckpointError(f"{path}: refused, the directory of the archive is not where its end record says")


def _directory_is_last(path: Path, size: int) -> bool:
    """Whether the directory that the end record points to ends where the end record begins.

    Python's `zipfile` looks in front of the end record, torch at the offset that the end record gives: where they
    differ, one of them checks what the other does not read.
    """
    with open(path, "rb") as file:
        start = max(0, size - _LONGEST_COMMENT - _END.size - _LOCATOR.size - _END64.size)
        file.seek(start)
        tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or place + _END.size > len(tail):
        return False
    _, *_, count, length, offset, comment = _END.unpack_from(tail, place)
    if place + _END.size + comment != len(tail):
        return False
    locator, end = place - _LOCATOR.size, start + place
    if locator >= 0 and tail[locator : locator + 4] == b"PK\6\7":
        end = _LOCATOR.unpack_from(tail, locator)[2]
        if locator < _END64.size or start + locator - _END64.size != end:
            return False
        signature, _, _, _, _, _, _, *large = _END64.unpack_from(tail, locator - _END64.size)
        small = zip((count, length, offset), large, (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True)
        if signature != b"PK\6\6" or any(short not in (full, most) for short, full, most in small):
            return False
        _, length, offset = large
    return bool(offset + length == end)


# ---------------------------------------------------------------- any content


def check_values(path: Path, content: Any) -> None:
    """Refuse tensors that are more than what is stored of them, and containers without end.

    Raises:
        CheckpointError: naming the first such value.
    """
    waiting: list[tuple[str, int, Any]] = [("", 0, content)]
    seen = 0
    while waiting:
        where, depth, value = waiting.pop()
        seen += 1
        if depth > MAX_DEPTH or seen > MAX_VALUES:
            what = f"nested deeper than {MAX_DEPTH}" if depth > MAX_DEPTH else f"more than {MAX_VALUES:,} values"
            raise CheckpointError(f"{path}: refused, its content is {what}")
        if isinstance(value, Tensor):
            problem = _not_plain(value)
            if problem:
                raise CheckpointError(f"{path}: refused, {where or 'its tensor'} {problem}")
        waiting += [(f"{where}.{key}".lstrip("."), depth + 1, item) for key, item in _items(value)]


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from enumerate(value)


def _not_plain(tensor: Tensor) -> str:
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided or tensor.device.type != "cpu":
        return "is not a dense tensor of plain numbers"
    if tensor.is_quantized:
        return "is quantized"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"{tuple(tensor.shape)} is larger than what is stored of it"
    return ""


def misfit(tensor: Tensor, own: Tensor) -> str:
    """Why a tensor cannot take the place of a model's own; empty for one that can.

    A model may hold constants that are no finite or no real numbers, such as a mask that is added: those, unchanged,
    are accepted.
    """
    if tensor.shape != own.shape:
        return f"is {tuple(tensor.shape)}, the model has {tuple(own.shape)}"
    if _kind(tensor) != _kind(own):
        return f"is {_dtype(tensor)}, the model has {_dtype(own)}"
    if tensor.is_floating_point() or tensor.is_complex():
        tensor = tensor.to(own.device, own.dtype)
        if not bool((torch.isfinite(tensor) | (tensor == own)).all()):
            return "is not finite"
    return ""


def _kind(tensor: Tensor) -> tuple[bool, bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex(), tensor.dtype == torch.bool


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


# ---------------------------------------------------------------- a run's state


Count = Annotated[int, Field(ge=0, le=_MOST)]
Tensors = dict[str, Tensor]
Number = FiniteFloat | int


class _Part(BaseModel):
    """What is named is checked strictly; other keys, of newer versions, may stand beside it."""

    model_config = ConfigDict(strict=True, arbitrary_types_allowed=True, extra="allow", protected_namespaces=())


class _Group(_Part):
    params: list[Count]
    lr: FiniteFloat
    betas: tuple[FiniteFloat, FiniteFloat] | list[FiniteFloat] = []
    momentum: FiniteFloat = 0.0


class _Optimizer(_Part):
    state: dict[Count, dict[str, Tensor | float | None]]
    param_groups: list[_Group]


class _Schedule(_Part):
    last_epoch: Count = 0
    # torch counts from 1 and gives 0 for what was never stepped.
    step_count: Count = Field(default=0, alias="_step_count")
    last_lr: list[FiniteFloat] = Field(default=[], alias="_last_lr")
    best: float | None = None
    num_bad_epochs: Count = 0
    cooldown_counter: Count = 0
    T_cur: Number = 0
    T_i: Number = 1


class _Optimization(_Part):
    lr: Annotated[FiniteFloat, Field(ge=0)]
    optimizer: _Optimizer
    scheduler: _Schedule
    schedule: str | None = None
    scaler: dict[str, Number] | None


class _Monitor(_Part):
    best: FiniteFloat | None
    best_step: Count
    stale: Count
    ranking: list[tuple[FiniteFloat, Count]] = []
    rule: str | None = None


class _Guard(_Part):
    skipped: Count
    in_row: dict[str, Count] | Count
    large_in_row: dict[str, Count] = {}
    first: dict[str, FiniteFloat] = {}


class _Window(_Part):
    sums: Tensors
    counts: Tensors


class _State(_Part):
    """Every part that a run's checkpoint may have; which of them must be there is asked by name."""

    config: dict[str, JsonValue] = {}
    text_encoder: dict[str, Any] = {}
    task: dict[str, Any] = {}
    model: Tensors = {}
    training_weights: Tensors = {}
    ema_updates: Count = 0
    optimizations: dict[str, _Optimization] = {}
    step: Count = 0
    epoch: Count = 0
    batch: Count = 0
    batches_per_epoch: Annotated[int, Field(ge=1, le=_MOST)] = 1
    evaluated_at: Annotated[int, Field(ge=-1, le=_MOST)] = -1
    monitor: _Monitor | None = None
    guard: _Guard | None = None
    window: Annotated[list[_Window], Field(min_length=1)] = []
    rng: Annotated[list[dict[str, Any]], Field(min_length=1)] = []
    writers: dict[str, dict[str, Any]] = {}


def check_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Check the kind of every part of a run's state that is there.

    Raises:
        CheckpointError: naming the first part that is not what it should be, and how many others there are.
    """
    try:
        _State.model_validate(dict(state))
    except ValidationError as error:
        first, *others = error.errors(include_url=False, include_input=False, include_context=False)
        where = ".".join(map(str, first["loc"]))
        more = f" (and {len(others)} more)" if others else ""
        reason = first["msg"].removeprefix("Value error, ")
        raise CheckpointError(f"{path}: malformed, {where}: {reason}{more}") from None
