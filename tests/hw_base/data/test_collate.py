import pytest
import torch

from hw_base.data.collate import PadCollate, good_items, pad_stack


def test_pad_stack():
    padded, length = pad_stack([torch.tensor([1, 2, 3]), torch.tensor([4]), torch.tensor([], dtype=torch.int64)], -1)
    assert padded.tolist() == [[1, 2, 3], [4, -1, -1], [-1, -1, -1]]
    assert padded.dtype == torch.int64
    assert length.tolist() == [3, 1, 0]
    assert length.dtype == torch.int64


def test_pad_stack_keeps_leading_axes():
    tensors = [torch.rand(5, 3), torch.rand(5, 7)]
    padded, length = pad_stack(tensors, 0.5)
    assert padded.shape == (2, 5, 7)
    assert torch.equal(padded[0, :, :3], tensors[0])
    assert torch.equal(padded[1], tensors[1])
    assert torch.all(padded[0, :, 3:] == 0.5)
    assert length.tolist() == [3, 7]


@pytest.mark.parametrize("other", [torch.zeros(3, dtype=torch.int64), torch.zeros(2, 3)])
def test_pad_stack_of_unlike_tensors(other):
    with pytest.raises((AssertionError, RuntimeError)):
        pad_stack([torch.zeros(4), other])


def test_every_kind_of_value():
    items = [
        {"waveform": torch.ones(2), "tokens": torch.tensor([5]), "text": "a", "rate": 1.5, "n": 7, "id": None},
        {"waveform": torch.ones(3), "tokens": torch.tensor([6, 7]), "text": "b", "rate": 2.5, "n": 8, "id": (1, 2)},
    ]
    for item in items:
        item["speaker"] = torch.tensor(item["n"])
        item["embedding"] = torch.full((4,), item["rate"])
    batch = PadCollate({"tokens": -1}, fixed=["embedding"])(items)
    assert batch["waveform"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["waveform_length"].tolist() == [2, 3]
    assert batch["tokens"].tolist() == [[5, -1], [6, 7]]
    assert batch["tokens_length"].tolist() == [1, 2]
    assert batch["text"] == ["a", "b"]
    assert batch["id"] == [None, (1, 2)]
    assert batch["rate"].tolist() == [1.5, 2.5]
    assert batch["n"].tolist() == [7, 8]
    assert batch["n"].dtype == torch.int64
    assert batch["speaker"].tolist() == [7, 8]
    assert batch["embedding"].shape == (2, 4)
    assert "embedding_length" not in batch
    assert batch["skipped"] == []


def test_skipped_items():
    items = [
        None,
        {"skipped": [("a", "no file")]},
        {"text": "b", "skipped": []},
        {"text": "d", "skipped": [("c", "truncated")]},
    ]
    assert good_items(items) == ([{"text": "b"}, {"text": "d"}], [("a", "no file"), ("c", "truncated")])
    assert PadCollate()(items) == {"text": ["b", "d"], "skipped": [("a", "no file"), ("c", "truncated")]}
    assert PadCollate()(items[:2]) == {"skipped": [("a", "no file")]}
    assert "skipped" in items[3]
