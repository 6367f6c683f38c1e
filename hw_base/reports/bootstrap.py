"""Whether one of two systems is better: the paired bootstrap over utterances."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hw_base.reports.language import Language

_CELLS = 2_000_000  # of a block of resampled counts
_FEW = 30


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same utterances.

    Attributes:
        first: error rate of the corpus.
        second: likewise.
        difference: second minus first.
        interval: 95 % interval of the difference.
        p_value: two-sided; the fraction of resampled corpora whose difference lies as far from the measured one as
            that does from 0.
        utterances: how many both have.
    """

    first: float
    second: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    utterances: int

    def words(
        self, first: str, second: str, figure: str, say: Language, rate: bool = True, higher: bool = False
    ) -> str:
        """What it means, in a few sentences.

        Args:
            first: name of the first system.
            second: likewise.
            figure: name of what was measured.
            say: in which language.
            rate: the figure is an error rate, to be shown in percent.
            higher: the higher figure is the better one.
        """
        if self.difference == 0:
            same = "{first} and {second} have the same {figure}, {rate}: no difference was measured."
            shown = f"{100 * self.first:.2f} %" if rate else f"{self.first:.4g}"
            return say(same, first=first, second=second, figure=figure, rate=shown)
        second_wins = (self.difference > 0) is higher
        values = (self.second, self.first) if second_wins else (self.first, self.second)
        names = {"better": second if second_wins else first, "worse": first if second_wins else second}
        sign = 1 if self.difference > 0 else -1
        interval = sorted(sign * bound for bound in self.interval)
        keys, numbers = ("good", "bad", "points", "low", "high"), (*values, abs(self.difference), *interval)
        # Adding 0 takes the sign from a negative zero.
        shown_numbers = [f"{round(100 * number, 2) + 0.0:.2f}" if rate else f"{number:.4g}" for number in numbers]
        sentence = (
            "{better} has the lower {figure}: {good} % against {bad} % of {worse}, a difference of {points} points "
            "(95 % interval {low} to {high})."
            if rate
            else "{better} has the better {figure}: {good} against {bad} of {worse}, a difference of {points} "
            "(95 % interval {low} to {high})."
        )
        shown = say(sentence, **names, figure=figure, **dict(zip(keys, shown_numbers, strict=True)))
        sentences = [shown, verdict(self.p_value, say)]
        if self.utterances < _FEW:
            sentences.append(say("{n} utterances are few; compare on more.", n=self.utterances))
        return " ".join(sentences)


def verdict(p_value: float, say: Language) -> str:
    """A p-value in words."""
    if p_value < 0.001:
        return say(
            "If both were equally good, fewer than one in 1000 test sets would show a difference this large "
            "(p < 0.001): it is almost certainly real."
        )
    values = {"n": max(1, round(1000 * p_value)), "p": f"{p_value:.3f}"}
    if p_value < 0.05:
        return say(
            "If both were equally good, about {n} in 1000 test sets would show a difference this large (p = {p}): "
            "it is probably real.",
            **values,
        )
    return say(
        "If both were equally good, about {n} in 1000 test sets would show a difference this large (p = {p}): "
        "it may well be chance.",
        **values,
    )


def compare(
    first: Sequence[tuple[float, float]], second: Sequence[tuple[float, float]], resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Compare corpus rates (sum of errors over sum of units) of two systems.

    Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 16; Bisani and Ney, "Bootstrap estimates
    for confidence intervals in ASR performance evaluation", ICASSP 2004, which draws the utterances of both together.

    Args:
        first: errors and units of each utterance.
        second: of the same utterances in the same order.
        resamples: corpora to draw.
        seed: of the draws.

    Raises:
        ValueError: lengths differ, or nothing to compare.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} and {len(second)} utterances cannot be compared in pairs")
    counts = np.array([(*a, *b) for a, b in zip(first, second, strict=True)], dtype=np.float64)
    generator = np.random.default_rng(seed)
    n = len(counts)
    block = max(1, _CELLS // n)
    drawn = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        weights = generator.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        drawn.append(weights @ counts)
    sums = np.concatenate(drawn)
    differences = sums[:, 2] / np.maximum(sums[:, 3], 1) - sums[:, 0] / np.maximum(sums[:, 1], 1)
    total = counts.sum(axis=0)
    rates = total[0] / max(total[1], 1), total[2] / max(total[3], 1)
    measured = rates[1] - rates[0]
    # One draw more than there were: the data themselves, so that p is never 0 (Davison and Hinkley 1997, 4.2).
    extreme = np.sum(np.abs(differences - measured) >= abs(measured) - 1e-12)
    p_value = min(1.0, float(1 + extreme) / (resamples + 1))
    low, high = np.percentile(differences, [2.5, 97.5])
    return Comparison(float(rates[0]), float(rates[1]), float(measured), (float(low), float(high)), p_value, n)
