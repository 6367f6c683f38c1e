"""Error rates of recognition."""

from collections.abc import Sequence

from hw_base.metrics import EditRate
from hw_base.registry import METRICS
from hw_base.texts.normalizers import NormalizerName, normalizer


class NormalizedEditRate(EditRate):
    """An error rate of texts that were normalized first, in a way that has a name and knows no vocabulary.

    Args:
        normalizer: of the reference and the hypothesis, see `hw_base.texts.normalizers`.
    """

    def __init__(self, normalizer: NormalizerName = "letters") -> None:
        super().__init__()
        self.normalizer = normalizer
        self._normalize = _NORMALIZERS[normalizer]


_NORMALIZERS = {name: normalizer(name) for name in ("none", "lower", "letters")}


@METRICS.register()
class WER(NormalizedEditRate):
    """Word error rate of a corpus: edits over reference words."""

    def units(self, text: str) -> Sequence[str]:
        """Words."""
        return self._normalize(text).split()


@METRICS.register()
class CER(NormalizedEditRate):
    """Character error rate of a corpus: edits over reference characters, spaces between words included."""

    def units(self, text: str) -> Sequence[str]:
        """Characters; every normalizer drops white space at the ends and makes any other stretch of it one space."""
        return self._normalize(text)
