"""The compiled comparison of long sequences against rapidfuzz's weighted distance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

pytest.importorskip("numba")

from hw_base.texts.long_edits import weighted_distance

units = st.lists(st.integers(0, 3), max_size=12)


def expected(left, right):
    cost = min(len(left), len(right)) + 1
    return Levenshtein.distance(left, right, weights=(cost, cost, cost + 1))


def found(left, right):
    arrays = (np.array(one, np.int64) for one in (left, right))
    return weighted_distance(*arrays, Levenshtein.distance(left, right))


@settings(deadline=None, max_examples=500)
@given(units, units)
def test_short_sequences_equal_the_weighted_distance(left, right):
    assert found(left, right) == expected(left, right)


@pytest.mark.parametrize("wrong", [0.0, 0.1, 0.5, 1.0])
def test_longer_sequences_equal_the_weighted_distance(wrong):
    rng = np.random.default_rng(0)
    left = rng.integers(0, 5, 700)
    right = np.delete(np.where(rng.random(700) < wrong, rng.integers(0, 5, 700), left), rng.integers(0, 700, 40))
    right = np.insert(right, rng.integers(0, len(right), 60), 7)
    assert found(left.tolist(), right.tolist()) == expected(left.tolist(), right.tolist())
