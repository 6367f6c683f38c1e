"""Seconds to frames and back: sums, rounding, what is refused."""

import itertools
import random

import pytest
import torch

from hw_base.errors import DataError
from hw_base.synthetic.corpus import SyntheticSpeech
from hw_base.texts.alignments import check_phones
from hw_tts.alignment.intervals import durations_from_phones, fill_gaps, phones_from_durations, without_blanks

RATE, HOP = 22050, 256


def random_phones(generator, n, longest=0.3):
    edges = [0.0]
    for _ in range(n):
        edges.append(edges[-1] + generator.choice([0.0, generator.uniform(0, longest), generator.uniform(0, 0.02)]))
    return [[f"p{i}", start, end] for i, (start, end) in enumerate(itertools.pairwise(edges))]


def test_durations_sum_to_the_frames_and_stay_within_a_frame_of_the_times():
    generator = random.Random(0)
    for _ in range(200):
        phones = random_phones(generator, generator.randint(1, 40))
        frames = int(phones[-1][2] * RATE) // HOP + 1
        durations = durations_from_phones(phones, frames, RATE, HOP, "u")
        assert durations.dtype == torch.int64
        assert (durations >= 0).all()
        assert int(durations.sum()) == frames
        for edge, (_, _, end) in list(zip(durations.cumsum(0).tolist(), phones, strict=True))[:-1]:
            assert abs(edge - min(end * RATE / HOP, frames)) <= 0.5 + 1e-9


def test_each_time_is_rounded_by_itself():
    phones = [["a", 0, 0.014], ["b", 0.014, 0.026], ["c", 0.026, 0.04]]  # edges at 1.4, 2.6 and 4.0 frames
    assert durations_from_phones(phones, 4, 1000, 10, "u").tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("frames", "expected"), [(10, [2, 3, 5]), (12, [2, 3, 7]), (8, [2, 3, 3]), (13, [2, 3, 8]), (7, [2, 3, 2])]
)
def test_the_last_symbol_settles_the_difference(frames, expected):
    phones = [["a", 0.0, 0.2], ["b", 0.2, 0.5], ["c", 0.5, 1.0]]
    assert durations_from_phones(phones, frames, 1000, 100, "u", tolerance=3).tolist() == expected


def test_what_the_last_symbol_cannot_give_comes_from_those_before():
    phones = [["a", 0.0, 0.5], ["b", 0.5, 0.9], ["c", 0.9, 1.0]]
    assert durations_from_phones(phones, 8, 1000, 100, "u").tolist() == [5, 3, 0]
    assert durations_from_phones(phones, 8, 1000, 100, "u").sum() == 8


@pytest.mark.parametrize("frames", [14, 6])
def test_another_length_names_the_utterance(frames):
    with pytest.raises(DataError, match=rf"'LJ001'.*ends at 1\.000 s, frame 10 .* has {frames} frames"):
        durations_from_phones([["a", 0.0, 1.0]], frames, 1000, 100, "LJ001", tolerance=3)


def test_durations_come_back_from_phones_made_of_them():
    generator = random.Random(1)
    for _ in range(100):
        durations = [generator.choice([0, 0, 1, 2, 7, 90]) for _ in range(generator.randint(1, 60))]
        symbols = [str(i) for i in range(len(durations))]
        phones = phones_from_durations(symbols, durations, RATE, HOP)
        check_phones(phones, "u")
        assert durations_from_phones(phones, sum(durations), RATE, HOP, "u", 0).tolist() == durations


@pytest.mark.parametrize(
    ("phones", "message"),
    [
        ([], "found nothing"),
        (None, "found nothing"),
        ("abc", "found 'abc'"),
        ([["a", 0.0]], r"interval 0: expected \[symbol, start, end\]"),
        ([["a", 0.0, "1"]], "interval 0: expected"),
        ([["a", 0.0, float("nan")]], "interval 0: expected"),
        ([[1, 0.0, 1.0]], "interval 0: expected"),
        ([["a", 0.5, 1.0]], "the first one starts at 0.5 s"),
        ([["a", 0.0, 1.0], ["b", 1.2, 2.0]], r"interval 1 \('b'\) starts at 1.2 s instead of 1 s"),
        ([["a", 0.0, 1.0], ["b", 0.8, 2.0]], r"interval 1 \('b'\) starts at 0.8 s"),
        ([["a", 0.0, 1.0], ["b", 1.0, 0.5]], "ends at 0.5 s, before its start"),
    ],
)
def test_what_is_no_alignment_is_refused(phones, message):
    with pytest.raises(DataError, match=message) as error:
        durations_from_phones(phones, 100, RATE, HOP, "LJ002")
    assert "'LJ002'" in str(error.value)


def test_times_rounded_by_a_file_may_overlap_by_that_much():
    phones = [["a", 0, 0.5006], ["b", 0.4994, 0.4994], ["c", 0.5, 1.0]]
    assert durations_from_phones(phones, 1000, 1000, 1, "u").tolist() == [501, 0, 499]


def test_gaps_become_silence():
    phones = [["a", 0.1, 0.2], ["b", 0.2, 0.3], ["c", 0.5, 0.7]]
    expected = [["_", 0.0, 0.1], ["a", 0.1, 0.2], ["b", 0.2, 0.3], ["_", 0.3, 0.5], ["c", 0.5, 0.7], ["_", 0.7, 1.0]]
    assert fill_gaps(phones, 1.0, "_") == expected
    assert fill_gaps([], 1.0, "_") == [["_", 0.0, 1.0]]
    assert fill_gaps([["a", 0.0, 0.9995]], 1.0, "_") == [["a", 0.0, 1.0]]
    for row in (expected, fill_gaps([["a", 0.0011, 0.4], ["b", 0.401, 0.9]], 0.9)):
        check_phones(row, "u")


def test_the_embedded_corpus_has_alignments_in_this_format(tmp_path):
    for record in SyntheticSpeech("val", 3, cache_dir=str(tmp_path)).records:
        for hop in (160, 200, 256):
            frames = round(record.duration * 16000) // hop + 1
            durations = durations_from_phones(record.extra["phones"], frames, 16000, hop, record.utterance_id, 1)
            assert int(durations.sum()) == frames


def test_blanks_give_their_frames_to_the_symbol_before():
    assert without_blanks(["", "a", "", "b", ""], [1, 2, 3, 4, 5]) == (["a", "b"], [6, 9])
    assert without_blanks(["a", "b"], [2, 0]) == (["a", "b"], [2, 0])
