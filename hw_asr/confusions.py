"""Which letters are confused with which others: counted along the alignment of targets and predictions."""

from collections import Counter
from collections.abc import Iterable
from itertools import zip_longest

import torch
from torch import Tensor

from hw_base import distributed
from hw_base.errors import MissingPackageError

# What stands in a pair where one side has nothing.
NOTHING = ""
MOST_LETTERS = 40  # of the picture

Row = tuple[str, str, int, float]


class Confusions:
    """Pairs (target, prediction) of characters; ``("a", "")`` is a deletion, ``("", "a")`` an insertion."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def update(self, references: Iterable[str | None], hypotheses: Iterable[str]) -> None:
        """Add utterances; a reference of None is left out.

        Raises:
            MissingPackageError: rapidfuzz is not installed.
        """
        try:
            from rapidfuzz.distance import Levenshtein
        except ImportError as error:
            raise MissingPackageError("the confusion of letters", "rapidfuzz") from error
        for reference, hypothesis in zip(references, hypotheses, strict=True):
            if reference is None:
                continue
            for part in Levenshtein.opcodes(reference, hypothesis):
                left = reference[part.src_start : part.src_end]
                right = hypothesis[part.dest_start : part.dest_end]
                self.counts.update(zip_longest(left, right, fillvalue=NOTHING))

    def gathered(self) -> "Confusions":
        """Those of all processes together; this one starts anew."""
        whole = Confusions()
        for counts in distributed.gather(self.counts):
            whole.counts.update(counts)
        self.counts = Counter()
        return whole

    def most_frequent(self, most: int = 20) -> list[Row]:
        """Target, prediction, how often, and the fraction of the target letter's occurrences, without matches."""
        targets: Counter[str] = Counter()
        for (target, _), count in self.counts.items():
            targets[target] += count
        errors = [(pair, count) for pair, count in self.counts.items() if pair[0] != pair[1]]
        errors.sort(key=lambda error: (-error[1], error[0]))
        return [(a, b, count, count / targets[a]) for (a, b), count in errors[:most]]

    def matrix(self, most: int = MOST_LETTERS) -> tuple[Tensor, list[str], list[str]]:
        """What became of each target letter, in fractions.

        Args:
            most: letters to show, the most frequent ones of both sides.

        Returns:
            tuple: the fractions (R, C), each row of which sums to 1 unless letters are left out, or to 0 where the
            targets lack its letter; the target letters of the rows, what is inserted last; the predicted letters of
            the columns, what is deleted last.
        """
        seen: Counter[str] = Counter()
        for (target, prediction), count in self.counts.items():
            seen[target] += count
            seen[prediction] += count
        letters = sorted([letter for letter, _ in seen.most_common() if letter != NOTHING][:most])
        names = [*letters, NOTHING]
        rows = [[self.counts[target, prediction] for prediction in names] for target in names]
        totals = [sum(n for (target, _), n in self.counts.items() if target == name) for name in names]
        fractions = (
            torch.tensor(rows, dtype=torch.float64) / torch.tensor(totals, dtype=torch.float64).clamp(min=1)[:, None]
        )
        return fractions, names, names


def letter_name(letter: str, nothing: str) -> str:
    """A letter as it is shown: white space can be seen, and nothing has a word."""
    return nothing if letter == NOTHING else "␣" if letter == " " else letter
