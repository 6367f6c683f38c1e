"""Items into a batch: padding, lengths, and everything that cannot be padded as a list."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Item = dict[str, Any]
Batch = dict[str, Any]


def pad_stack(tensors: Sequence[Tensor], value: float = 0.0) -> tuple[Tensor, Tensor]:
    """Stack tensors that differ in their last axis alone, padded at its end.

    Args:
        tensors: B tensors (..., N_b), of one dtype and with equal leading axes.
        value: what the padding holds.

    Returns:
        padded (Tensor): (B, ..., max N_b).
        length (Tensor): (B,), int64, the N_b.
    """
    first = tensors[0]
    length = torch.tensor([tensor.shape[-1] for tensor in tensors], dtype=torch.int64)
    padded = first.new_empty((len(tensors), *first.shape[:-1], int(length.max())))
    for row, tensor in zip(padded, tensors, strict=True):
        assert tensor.dtype == first.dtype
        assert tensor.shape[:-1] == first.shape[:-1]
        row[..., : tensor.shape[-1]] = tensor
        row[..., tensor.shape[-1] :] = value
    return padded, length


class PadCollate:
    """Batch by kind of value.

    A tensor with at least one axis is padded along its last one and comes with ``<key>_length``; numbers and tensors
    without axes become one tensor (B,); anything else becomes a list. Items that are None, or hold nothing but
    ``"skipped"``, are left out.

    Args:
        pad_values: what the padding of a key holds; 0 for every other.
        fixed: keys whose tensors have one shape in all items: stacked, and without a length.
    """

    def __init__(self, pad_values: Mapping[str, float] | None = None, fixed: Sequence[str] = ()) -> None:
        self.pad_values = dict(pad_values or {})
        self.fixed = frozenset(fixed)

    def __call__(self, items: Sequence[Item | None]) -> Batch:
        """One batch.

        Args:
            items: dicts with equal keys.

        Returns:
            dict: as above; ``"skipped"`` holds what all the items reported, joined.
        """
        kept, skipped = good_items(items)
        batch: Batch = {}
        if kept:
            for key in kept[0]:
                batch.update(self._column(key, [item[key] for item in kept]))
        batch["skipped"] = skipped
        return batch

    def _column(self, key: str, values: list[Any]) -> Batch:
        first = values[0]
        if isinstance(first, Tensor) and first.dim() > 0:
            if key in self.fixed:
                return {key: torch.stack(values)}
            padded, length = pad_stack(values, self.pad_values.get(key, 0.0))
            return {key: padded, f"{key}_length": length}
        if isinstance(first, (Tensor, int, float)):
            return {key: torch.stack([torch.as_tensor(value) for value in values])}
        return {key: values}


def good_items(items: Sequence[Item | None]) -> tuple[list[Item], list[tuple[str, str]]]:
    """What can be batched, without its ``"skipped"``, and all that was skipped: ``(utterance_id, reason)``."""
    kept: list[Item] = []
    skipped: list[tuple[str, str]] = []
    for item in items:
        if item is not None:
            skipped.extend(item.get("skipped", ()))
            content = {key: value for key, value in item.items() if key != "skipped"}
            if content:
                kept.append(content)
    return kept, skipped
