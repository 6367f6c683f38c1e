"""The edits between two long sequences, as a compiled loop. Needs numba."""

import numpy as np

from hw_base.compiled import compiled

_FAR = 1 << 60


@compiled
def weighted_distance(reference, hypothesis, distance):  # type: ignore[no-untyped-def]
    """``K * distance + substitutions``, with the fewest substitutions among the ways of the fewest edits.

    Goes along anti-diagonals, whose cells do not depend on each other, so that the loop becomes vector instructions;
    and only through cells that a way of so few edits can reach (Ukkonen 1985, "Algorithms for Approximate String
    Matching").

    Args:
        reference: (N,), int64, not negative.
        hypothesis: (M,), int64, not negative.
        distance: Levenshtein distance of the two.

    Returns:
        int: with ``K = min(N, M) + 1``.
    """
    n, m = len(reference), len(hypothesis)
    gap = min(n, m) + 1
    # Place i + 1 belongs to the first i units of the reference. On anti-diagonal t they meet t - i of the hypothesis.
    ours, theirs = np.full(n + 2, -1, np.int64), np.full(m + 2, -2, np.int64)
    ours[1 : n + 1] = reference
    theirs[1 : m + 1] = hypothesis[::-1]
    older, old, new = np.full(n + 3, _FAR, np.int64), np.full(n + 3, _FAR, np.int64), np.full(n + 3, _FAR, np.int64)
    old[1] = 0
    least, most = -((distance - (m - n)) // 2), (distance + (m - n)) // 2  # of the diagonal (t - i) - i
    for t in range(1, n + m + 1):
        first = max(0, t - m, -((most - t) // 2))
        last = min(n, t, (t - least) // 2)
        count = last - first + 1
        new[first], new[last + 2] = _FAR, _FAR
        cells = new[first + 1 : first + 1 + count]
        deleted, inserted = old[first : first + count], old[first + 1 : first + 1 + count]
        replaced = older[first : first + count]
        a = ours[first : first + count]
        b = theirs[first + m - t + 1 : first + m - t + 1 + count]
        for k in range(count):
            cells[k] = min(deleted[k], inserted[k]) + gap
        # A loop of its own: of fewer arrays the compiler can tell that they do not overlap.
        for k in range(count):
            cells[k] = min(cells[k], replaced[k] + (0 if a[k] == b[k] else gap + 1))
        older, old, new = old, new, older
    return old[n + 1]
