import torch

from hw_asr.data.collate import ASRCollate
from hw_base.registry import COLLATES


def item(n, tokens=None, **other):
    x = {"waveform": torch.ones(10 * n), "spectrogram": torch.full((4, n), float(n)), "utterance_id": f"u{n}"}
    x["text"] = None if tokens is None else "ab"
    if tokens is not None:
        x["tokens"] = torch.tensor(tokens)
    return {**x, **other}


def test_padding_and_lengths():
    batch = ASRCollate()([item(3, [1, 2]), item(5, [7])])
    assert batch["waveform"].shape == (2, 50)
    assert batch["waveform_length"].tolist() == [30, 50]
    assert batch["spectrogram"].shape == (2, 4, 5)
    assert batch["spectrogram_length"].tolist() == [3, 5]
    assert (batch["spectrogram"][0, :, :3] == 3).all()
    assert not batch["spectrogram"][0, :, 3:].any()
    assert batch["tokens"].tolist() == [[1, 2], [7, 0]]
    assert batch["tokens_length"].tolist() == [2, 1]
    for key in ("waveform_length", "spectrogram_length", "tokens_length", "tokens"):
        assert batch[key].dtype == torch.int64
    assert batch["text"] == ["ab", "ab"]
    assert batch["utterance_id"] == ["u3", "u5"]
    assert batch["skipped"] == []


def test_without_any_transcript_there_are_no_tokens():
    batch = ASRCollate()([item(3), item(5)])
    assert "tokens" not in batch
    assert "tokens_length" not in batch
    assert batch["text"] == [None, None]


def test_beside_others_a_missing_transcript_is_empty_and_marked():
    batch = ASRCollate()([item(3), item(5, [7, 8])])
    assert batch["tokens_length"].tolist() == [0, 2]
    assert batch["tokens"].tolist() == [[0, 0], [7, 8]]
    assert batch["text"] == [None, "ab"]


def test_what_was_skipped_leaves_and_is_reported():
    items = [None, item(3, [1], skipped=[("x", "torn")]), {"skipped": [("y", "gone")]}]
    batch = ASRCollate()(items)
    assert batch["utterance_id"] == ["u3"]
    assert batch["skipped"] == [("x", "torn"), ("y", "gone")]
    assert ASRCollate()([None, {"skipped": [("y", "gone")]}]) == {"skipped": [("y", "gone")]}


def test_the_name_of_configs():
    assert COLLATES["ASRCollate"] is ASRCollate
