"""What every collate function keeps to."""

from typing import Any

import torch
from torch import Tensor

from hw_base.checks.contract import Candidate, Contract, Outcome, expect
from hw_base.checks.table import declare

COLLATE: Contract[Candidate] = Contract("collate")


def check_collate(candidate: Candidate) -> list[Outcome]:
    """All properties of what makes a batch of items."""
    return COLLATE.check(candidate)


def _items() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    items = []
    for i, (n_frames, n_tokens) in enumerate([(7, 3), (12, 1), (5, 5)]):
        items.append(
            {
                "utterance_id": f"u{i}",
                "audio_path": f"u{i}.wav",
                "speaker": "",
                "waveform": torch.randn(160 * n_frames, generator=generator),
                "spectrogram": torch.randn(4, n_frames, generator=generator) + 3.0,
                "tokens": torch.randint(1, 9, (n_tokens,), generator=generator),
                "text": "abcde"[:n_tokens],
            }
        )
    return items


@COLLATE.property("axes are swapped, the order of items is changed, or the padding stands in front")
def every_item_stands_in_its_row(candidate: Candidate) -> None:
    items = _items()
    batch = candidate.build()(items)
    for key in ("waveform", "spectrogram", "tokens"):
        expect(key in batch, f"a key {key!r}", sorted(batch))
        longest = max(item[key].shape[-1] for item in items)
        shape = (len(items), *items[0][key].shape[:-1], longest)
        expect(tuple(batch[key].shape) == shape, f"{key} of shape {shape}", tuple(batch[key].shape))
        expect(batch[key].dtype == items[0][key].dtype, f"{key} in {items[0][key].dtype}", batch[key].dtype)
        for row, item in zip(batch[key], items, strict=True):
            expect(torch.equal(row[..., : item[key].shape[-1]], item[key]), f"{key} as in the item", "other values")


@COLLATE.property("lengths are those of the padded tensor, or of another axis")
def lengths_are_those_of_the_items(candidate: Candidate) -> None:
    items = _items()
    batch = candidate.build()(items)
    for key in ("waveform", "spectrogram", "tokens"):
        expected = torch.tensor([item[key].shape[-1] for item in items])
        found = batch.get(f"{key}_length")
        good = isinstance(found, Tensor) and found.dtype == torch.int64 and torch.equal(found, expected)
        expect(good, f"{key}_length {expected.tolist()}, int64", found)


@COLLATE.property("the padding holds what was in memory, or another item's values")
def the_padding_is_zero(candidate: Candidate) -> None:
    items = _items()
    batch = candidate.build()(items)
    for key in ("waveform", "spectrogram", "tokens"):
        for row, item in zip(batch[key], items, strict=True):
            rest = row[..., item[key].shape[-1] :]
            expect(not rest.any(), f"zeros after {key}", rest.flatten()[:5].tolist())


@COLLATE.property("names and texts are left out or sorted, so that messages name the wrong utterance")
def names_and_texts_stay_with_their_items(candidate: Candidate) -> None:
    items = _items()
    batch = candidate.build()(items)
    for key in ("utterance_id", "text"):
        expected = [item[key] for item in items]
        expect(list(batch.get(key, ())) == expected, f"{key} {expected}", batch.get(key))


@COLLATE.property("a tensor of the batch shares memory with an item, or the items are changed")
def items_stay_as_they_are(candidate: Candidate) -> None:
    items, untouched = _items(), _items()
    candidate.build()(items)
    for item, before in zip(items, untouched, strict=True):
        expect(item.keys() == before.keys(), f"the keys {sorted(before)}", sorted(item))
        same = all(torch.equal(item[k], before[k]) if isinstance(before[k], Tensor) else True for k in before)
        expect(same, "tensors of items left as they are", "changed ones")


declare("collates", check_collate, lambda target: callable(target), "a class whose objects make a batch of items")
