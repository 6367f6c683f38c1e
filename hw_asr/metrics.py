"""Error rates of recognition."""

from collections.abc import Sequence

from hw_base.metrics import EditRate
from hw_base.registry import METRICS


@METRICS.register()
class WER(EditRate):
    """Word error rate of a corpus: edits over reference words."""

    def units(self, text: str) -> Sequence[str]:
        """Words."""
        return text.split()


@METRICS.register()
class CER(EditRate):
    """Character error rate of a corpus: edits over reference characters, spaces between words included."""

    def units(self, text: str) -> Sequence[str]:
        """Characters, without white space at the ends."""
        return text.strip()
