import functools
import math

import jiwer
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_base.errors import ConfigError
from hw_base.metrics import BaseMetric, EditRate, MetricBag, count_edits

words = st.lists(st.sampled_from("abc"), max_size=7)


class WordRate(EditRate):
    def units(self, text):
        return text.split()


def brute_force(reference, hypothesis):
    """(fewest edits, then fewest substitutions, deletions, insertions), over every way to align."""

    @functools.cache
    def best(i, j):
        if i == len(reference) and j == len(hypothesis):
            return (0, 0, 0, 0)
        ways = []
        if i < len(reference) and j < len(hypothesis):
            e, s, d, n = best(i + 1, j + 1)
            wrong = int(reference[i] != hypothesis[j])
            ways.append((e + wrong, s + wrong, d, n))
        if i < len(reference):
            e, s, d, n = best(i + 1, j)
            ways.append((e + 1, s, d + 1, n))
        if j < len(hypothesis):
            e, s, d, n = best(i, j + 1)
            ways.append((e + 1, s, d, n + 1))
        return min(ways)

    return best(0, 0)


@settings(deadline=None, max_examples=300)
@given(words, words)
def test_edits_equal_an_exhaustive_search(reference, hypothesis):
    edits = count_edits(reference, hypothesis)
    assert (edits.distance, edits.substitutions, edits.deletions, edits.insertions) == brute_force(
        tuple(reference), tuple(hypothesis)
    )
    assert edits.correct == len(reference) - edits.substitutions - edits.deletions
    assert edits.correct + edits.substitutions + edits.insertions == len(hypothesis)


def test_edits_of_known_pairs():
    assert count_edits("kitten", "sitting") == (2, 0, 1, 6)
    assert count_edits("ab", "ba") == (0, 1, 1, 2)  # as many edits as two substitutions, and one match more
    assert count_edits("", "abc") == (0, 0, 3, 0)
    assert count_edits("abc", "") == (0, 3, 0, 3)
    assert count_edits("", "") == (0, 0, 0, 0)


def test_long_texts_are_compared_exactly():
    rng = np.random.default_rng(0)
    reference = list(map(str, rng.integers(0, 30, 3000)))
    hypothesis = list(map(str, rng.integers(0, 30, 2500)))
    oracle = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    assert count_edits(reference, hypothesis).distance == oracle.substitutions + oracle.deletions + oracle.insertions


def test_the_rate_is_of_the_corpus_and_not_a_mean_of_means():
    rate = WordRate()
    rate.update(["a"], ["b"])
    rate.update(["a b c d e f g h i"], ["a b c d e f g h i"])
    assert rate.compute() == pytest.approx(0.1)
    assert rate.details() == {"substitutions": 1, "deletions": 0, "insertions": 0, "references": 10, "correct": 9}


def test_sums_of_two_halves_are_the_sums_of_the_whole():
    references, hypotheses = ["a b c", "d", "e f"], ["a c", "d d", "x y z"]
    whole, first, second = WordRate(), WordRate(), WordRate()
    whole.update(references, hypotheses)
    first.update(references[:1], hypotheses[:1])
    second.update(references[1:], hypotheses[1:])
    first.totals = first.totals + second.totals
    assert first.compute() == whole.compute() == pytest.approx(jiwer.wer(references, hypotheses))


def test_the_rate_may_exceed_one():
    rate = WordRate()
    rate.update(["yes"], ["no no no"])
    assert rate.compute() == jiwer.wer("yes", "no no no") == 3.0


def test_empty_references():
    rate = WordRate()
    assert rate.compute() == 0.0
    rate.update(["", "  "], ["", ""])
    assert rate.compute() == 0.0
    rate.update([""], ["a b"])
    assert rate.compute() == 2.0
    assert math.isfinite(rate.compute())
    rate.update(["a b c d"], ["a b c d"])
    assert rate.compute() == 0.5


def test_utterances_without_a_transcript_are_left_out_and_reset_forgets():
    rate = WordRate()
    rate.update([None, "a b"], ["whatever it says", "a"])
    assert rate.compute() == 0.5
    rate.reset()
    assert rate.compute() == 0.0
    assert not rate.totals.any()


def test_as_many_hypotheses_as_references():
    with pytest.raises(ValueError):
        WordRate().update(["a"], [])


def test_the_state_is_one_float64_tensor():
    class Accuracy(BaseMetric):
        sum_names = ("right", "all")

        def update(self, right, total):
            self.totals += torch.tensor([right, total])

        def compute(self):
            return float(self.totals[0] / self.totals[1])

    accuracy = Accuracy()
    accuracy.update(1, 4)
    assert accuracy.totals.dtype == torch.float64
    assert accuracy.totals.tolist() == [1.0, 4.0]
    assert accuracy.compute() == 0.25


class Counted(BaseMetric):
    sum_names = ("n",)

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def update(self, n):
        self.totals += n

    def compute(self):
        return self.weight * float(self.totals)


def test_a_bag_keeps_groups_and_metrics_apart_and_starts_anew():
    bag = MetricBag({"one": Counted(), "ten": Counted(10.0)}, ("", "a", "b"))
    bag.update(2, groups=("", "a"))
    bag.update(3, groups=("", "b"), wanted=lambda metric: metric.weight == 10.0)
    assert bag.any(lambda metric: metric.weight == 10.0)
    assert not bag.any(lambda metric: metric.weight == 5.0)
    assert bag.compute() == {"one": 2.0, "ten": 50.0, "one/a": 2.0, "ten/a": 20.0, "one/b": 0.0, "ten/b": 30.0}
    assert set(bag.compute().values()) == {0.0}


def test_one_utterance_is_measured_once_for_all_groups_and_told_alone():
    class Rate(WordRate):
        calls = 0

        def update(self, *pair):
            Rate.calls += 1
            super().update(*pair)

    bag = MetricBag({"wer": Rate(), "n": Counted()}, ("", "a", "b"))
    wanted = {"wanted": lambda metric: isinstance(metric, Rate)}
    assert bag.update_one(["x y"], ["x z"], groups=("", "a"), **wanted) == {"wer": (0.5, 2.0)}
    assert bag.update_one(["x y z w"], ["x y z w"], groups=("", "b"), **wanted) == {"wer": (0.0, 4.0)}
    assert bag.update_one([None], ["x"], **wanted) == {}  # of no reference there is no rate
    assert Rate.calls == 3
    values = bag.compute()
    assert (values["wer"], values["wer/a"], values["wer/b"]) == (pytest.approx(1 / 6), 0.5, 0.0)
    assert bag.update_one(3, wanted=lambda metric: isinstance(metric, Counted)) == {"n": (3.0, 1.0)}


class Forgotten(Counted):
    def __init__(self) -> None:
        self.weight = 1.0


def test_a_metric_that_did_not_make_its_totals_is_named():
    with pytest.raises(ConfigError, match=r"metrics\.odd: Forgotten has no totals; .* super\(\)\.__init__"):
        MetricBag({"odd": Forgotten()})
