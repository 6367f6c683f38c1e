"""A KenLM binary scored by KenLM itself, for searches that do so anyway: no n-gram has to be known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw_asr.language_models.arpa import SENTENCE_END
from hw_asr.language_models.kenlm.binary import read_kenlm
from hw_asr.language_models.ngram import LN10, NgramModel
from hw_base.errors import MissingPackageError


class KenlmScorer:
    """Words and scores of a binary of any layout and size.

    Attributes:
        unigrams: the words with their probabilities.

    Raises:
        DataError: a file that cannot be read, see ``read_kenlm``.
        MissingPackageError: kenlm is not installed.
    """

    def __init__(self, path: "str | Path") -> None:
        self.unigrams = NgramModel.from_arpa(read_kenlm(path, unigrams_only=True))
        try:
            import kenlm
        except ImportError as error:
            raise MissingPackageError("scores of a KenLM binary", "kenlm") from error
        self._model: Any = kenlm.Model(str(path))
        self._end = SENTENCE_END in self.unigrams.vocabulary

    def score_ids(self, words: Sequence[int]) -> float:
        """Natural-log probability of a sentence from ``<s>`` to ``</s>``."""
        return self.score(" ".join(self.unigrams.vocabulary[word] for word in words))

    def score(self, sentence: str) -> float:
        """`score_ids` of blank-separated words."""
        return float(self._model.score(sentence, bos=True, eos=self._end)) * LN10
