"""The paired bootstrap against counting by hand, and what it says in words."""

import random

import pytest

from hw_base.reports.bootstrap import compare, verdict
from hw_base.reports.language import Language

SAY = Language()


def noisy(seed, rate, n=200):
    generator = random.Random(seed)
    return [(sum(generator.random() < rate for _ in range(10)), 10) for _ in range(n)]


def test_rates_are_those_of_the_corpus():
    result = compare([(1, 2), (0, 8)], [(2, 2), (1, 8)], resamples=100)
    assert (result.first, result.second, result.difference) == pytest.approx((0.1, 0.3, 0.2))


def test_agrees_with_drawing_utterances_one_by_one():
    first, second = noisy(1, 0.20, 60), noisy(2, 0.24, 60)
    generator, measured = random.Random(0), compare(first, second, resamples=1).difference
    differences = []
    for _ in range(4000):
        drawn = [generator.randrange(60) for _ in range(60)]
        left = sum(first[i][0] for i in drawn) / sum(first[i][1] for i in drawn)
        right = sum(second[i][0] for i in drawn) / sum(second[i][1] for i in drawn)
        differences.append(right - left)
    differences.sort()
    result = compare(first, second)
    assert result.interval[0] == pytest.approx(differences[100], abs=0.005)
    assert result.interval[1] == pytest.approx(differences[3899], abs=0.005)
    expected = sum(abs(d - measured) >= abs(measured) for d in differences) / 4000
    assert result.p_value == pytest.approx(expected, abs=0.03)


def test_a_large_difference_is_certain_and_none_is_none():
    good, bad = noisy(1, 0.1), noisy(2, 0.3)
    certain = compare(good, bad)
    assert certain.p_value < 0.001
    assert "almost certainly" in certain.words("A", "B", "WER", SAY)
    assert certain.words("A", "B", "WER", SAY).startswith("A has the lower WER")
    same = compare(good, good)
    assert same.p_value == 1.0
    assert "no difference" in same.words("A", "B", "WER", SAY)


def test_equally_good_systems_are_told_apart_about_once_in_twenty():
    values = [compare(noisy(2 * i, 0.2, 50), noisy(2 * i + 1, 0.2, 50), resamples=500).p_value for i in range(200)]
    assert 2 <= sum(value < 0.05 for value in values) <= 22


def test_the_second_system_first_turns_signs_alone():
    one, other = noisy(1, 0.2), noisy(2, 0.23)
    forward, backward = compare(one, other), compare(other, one)
    assert forward.difference == -backward.difference
    assert forward.p_value == backward.p_value
    assert forward.words("A", "B", "WER", SAY) == backward.words("B", "A", "WER", SAY)


def test_few_utterances_are_named():
    assert "2 utterances are few" in compare([(1, 5), (2, 5)], [(0, 5), (1, 5)]).words("A", "B", "WER", SAY)


def test_a_metric_is_said_as_it_is_and_the_higher_one_may_be_better():
    result = compare([(4.0, 1.0)] * 40, [(5.0, 1.0)] * 40)
    assert result.words("A", "B", "mcd", SAY, rate=False).startswith("A has the better mcd: 4 against 5 of B")
    assert "a difference of 1 (95 % interval 1 to 1)" in result.words("A", "B", "mcd", SAY, rate=False)
    higher = result.words("A", "B", "stoi", SAY, rate=False, higher=True)
    assert higher.startswith("B has the better stoi: 5 against 4 of A")
    same = compare([(4.0, 1.0)], [(4.0, 1.0)])
    assert "the same mcd, 4: no difference" in same.words("A", "B", "mcd", SAY, rate=False)


@pytest.mark.parametrize(("p", "said"), [(0.0004, "fewer than one in 1000"), (0.02, "20 in 1000"), (0.4, "chance")])
def test_p_values_in_words(p, said):
    assert said in verdict(p, SAY)


def test_other_utterances_cannot_be_compared():
    with pytest.raises(ValueError, match="pairs"):
        compare([(1, 2)], [])
