"""TensorBoard: curves, pictures and sounds in a local browser, complete even after ``kill -9``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hw_base.errors import MissingPackageError
from hw_base.registry import WRITERS
from hw_base.writers.base import Cell, Writer
from hw_base.writers.media import samples_of


@WRITERS.register()
class TensorBoardWriter(Writer):
    """Event files in ``tensorboard`` inside the run folder; look with ``tensorboard --logdir RUN_DIR``.

    Args:
        run_dir: the run folder.

    Raises:
        MissingPackageError: tensorboard is not installed.
    """

    def __init__(self, run_dir: Path) -> None:
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            raise MissingPackageError(self.name, "tensorboard") from error
        self.folder = run_dir / "tensorboard"
        self._purge_step: int | None = None
        self._events: Any = None

    def _started(self) -> Any:
        if self._events is None:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(self.folder), purge_step=self._purge_step)
        return self._events

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Curves under their full names, grouped by split."""
        events = self._started()
        for name, value in values.items():
            events.add_scalar(name, value, step)
        events.flush()  # into the file at once, so that nothing but a power cut can take it away

    def audio(self, name: str, waveform: Tensor, sample_rate: int, step: int, caption: str = "") -> None:
        """A player for each step; the caption describes the tag."""
        sound = samples_of(waveform).astype(np.float32) / 32767
        self._add(_summaries().audio(name, sound[None], sample_rate), step, caption)

    def image(self, name: str, image: NDArray[np.uint8], step: int, caption: str = "") -> None:
        """A picture for each step; the caption describes the tag."""
        self._add(_summaries().image(name, image, dataformats="HWC"), step, caption)

    def _add(self, summary: Any, step: int, caption: str) -> None:
        """As `SummaryWriter.add_audio` and `add_image` do, which know no descriptions."""
        if caption:
            summary.value[0].metadata.summary_description = _as_it_is(caption)
        self._started().file_writer.add_summary(summary, step)

    def text(self, name: str, text: str, step: int) -> None:
        """The text as it is, not read as Markdown."""
        self._started().add_text(name, _as_it_is(text), step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """A Markdown table."""
        lines = [_markdown_row(columns), _markdown_row(["---"] * len(columns)), *(_markdown_row(row) for row in rows)]
        self._started().add_text(name, "\n".join(lines), step)

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Hide what the earlier process reported after `step`."""
        self._purge_step = step + 1

    def close(self) -> None:
        """Write out and close the event file."""
        if self._events is not None:
            self._events.close()
            self._events = None


def _summaries() -> Any:
    from torch.utils.tensorboard import summary

    return summary


def _as_it_is(text: str) -> str:
    """A text that Markdown shows unchanged."""
    return "\n".join("    " + line for line in text.splitlines())


def _markdown_row(cells: Sequence[Cell]) -> str:
    shown = [f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in shown) + " |"
