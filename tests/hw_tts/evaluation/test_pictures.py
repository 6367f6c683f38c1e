"""Pictures of alignments: what is drawn is where it should be."""

import numpy as np
import pytest
import torch

from hw_tts.evaluation.pictures import Panel, Spoken, alignment_image, pictures_of, speech_image, spoken
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.metrics.base import Pair
from hw_tts.text.characters import CharacterFrontEnd

pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib")


def pair(durations=(3, 4), reference=(5, 6), samples=4000):
    generator = torch.Generator().manual_seed(0)
    sounds = [0.1 * torch.randn(samples, generator=generator).clamp(-3, 3) for _ in range(2)]
    known = [torch.tensor(values) if values else None for values in (reference, durations)]
    return Pair(*sounds, 22050, "ab", None, "u1", *known)


def test_boundaries_lie_where_the_sound_changes():
    spectrogram = torch.zeros(20, 100)
    spectrogram[:, 50:] = 5.0
    rows = []
    for phones in ([["a", 0, 1.0]], [["a", 0, 0.495], ["b", 0.495, 1.0]]):  # frame 50 begins half a frame before 0.5 s
        picture = speech_image([Panel("x", spectrogram, phones, torch.full((100,), 120.0))], 0.01) / 255
        rows.append(picture[picture.shape[0] // 3, 100:-50])  # within the spectrogram, without its frame
    step = np.abs(np.diff(rows[0], axis=0)).max(1).argmax()
    drawn = np.flatnonzero(np.abs(rows[0] - rows[1]).max(1) > 0.05)
    assert len(drawn) > 0
    assert np.abs(drawn - step).max() <= 2


def test_a_longer_utterance_makes_a_wider_picture_and_pitch_a_higher_one():
    phones = [["$x^2", 0, 0.1], [" ", 0.1, 0.1], ["", 0.1, 3.0]]
    short = speech_image([Panel("costs $5 or $6_7", torch.randn(5, 30), phones)], 0.01)
    long = speech_image([Panel("a", torch.randn(5, 600), phones)], 0.01)
    pitched = speech_image([Panel("a", torch.randn(5, 600), phones, torch.full((600,), 99.0))], 0.01)
    assert long.shape[1] > short.shape[1]
    assert pitched.shape[0] > long.shape[0]
    silent = speech_image([Panel("a", torch.randn(5, 600), phones, torch.zeros(600))], 0.01)
    assert silent.shape == long.shape


def test_the_alignment_rises_from_the_first_symbol_at_the_bottom_left():
    weights = torch.zeros(40, 2)
    weights[:20, 0] = weights[20:, 1] = 1.0
    picture = alignment_image(["a", "b"], weights, 0.01).astype(int)
    rows, columns = np.nonzero((np.abs(picture - (8, 48, 107)) <= 3).all(-1))  # the darkest of the blues
    left, right = columns < np.median(columns), columns > np.median(columns)
    assert rows[left].mean() > rows[right].mean() + 20  # rows of a picture count from the top
    with pytest.raises(ValueError, match=r"3 symbols, but weights \(40, 2\)"):
        alignment_image(["a", "b", "c"], weights, 0.01)
    with pytest.raises(ValueError, match="2 symbols, but 3 durations"):
        alignment_image(["a", "b"], weights, 0.01, torch.tensor([20, 10, 10]))


def test_a_learned_alignment_is_taken_from_its_scores_without_the_padding():
    front_end = CharacterFrontEnd()
    batch = {
        "tokens": torch.tensor([[*front_end.encode("ab"), 0]]),
        "tokens_length": torch.tensor([2]),
        "spectrogram_length": torch.tensor([4]),
        "alignment_log_probs": torch.full((1, 6, 3), 0.25).log(),
    }
    one = spoken(batch, 0, pair(), front_end)
    assert one.symbols == ["a", "b"]
    assert torch.allclose(one.weights, torch.full((4, 2), 0.25))
    given = {key: value for key, value in batch.items() if key != "alignment_log_probs"}
    assert spoken(given, 0, pair(), front_end).weights is None


def test_everything_is_drawn_that_is_known():
    features = TTSFeatures()
    assert set(pictures_of(Spoken(pair(), ["a", "b"]), features)) == {"spectrogram", "alignment"}
    assert set(pictures_of(Spoken(pair(reference=None), ["a", "b"]), features)) == {"spectrogram"}
    assert set(pictures_of(Spoken(pair(durations=None), ["a", ""]), features)) == {"spectrogram", "alignment"}
    assert set(pictures_of(Spoken(pair(samples=10), ["a", "b"]), features)) == {"alignment"}
