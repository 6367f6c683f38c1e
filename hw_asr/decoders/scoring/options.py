"""What both search engines take and give."""

from typing import NamedTuple


class SearchOptions(NamedTuple):
    """Limits of the search.

    Attributes:
        beam_size: K, prefixes kept after each frame.
        tokens_per_frame: C, tokens by which prefixes grow in a frame, the most probable ones.
        beam_threshold: prefixes this much worse than the best one are dropped, natural log.
        blank_skip: frames whose blank is more probable than this are skipped; 1 skips none.
        n_best: hypotheses returned.
    """

    beam_size: int
    tokens_per_frame: int
    beam_threshold: float
    blank_skip: float
    n_best: int


class Found(NamedTuple):
    """A hypothesis before its text is made.

    Attributes:
        score: all bonuses included, natural log.
        acoustic_score: without them.
        lm_score: log-probability under the language model, unweighted.
        tokens: ids.
        frames: the frame at which each token first stood in the prefix.
    """

    score: float
    acoustic_score: float
    lm_score: float
    tokens: list[int]
    frames: list[int]
