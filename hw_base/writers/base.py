"""What a run reports to: the record in the run folder, and any number of trackers beside it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Cell = str | int | float | None


class Writer(ABC):
    """Receives what a run reports. Names are ``split/name``, for example ``train/ctc`` or ``val/spectrogram``.

    A registered writer may ask for ``run_dir`` (Path), ``run_name`` (str) and ``config`` (dict), which code provides;
    the rest of its constructor stands in the config. The constructor checks that everything it needs is there, so that
    a mistake is found before training, and opens nothing: that waits for the first report.
    """

    @property
    def name(self) -> str:
        """What messages and checkpoints call this writer."""
        return type(self).__name__

    @abstractmethod
    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Report numbers; what is not finite is reported as such."""

    @abstractmethod
    def audio(self, name: str, waveform: Tensor, sample_rate: int, step: int, caption: str = "") -> None:
        """Report a sound.

        Args:
            name: ``split/name``.
            waveform (Tensor): ``(S,)``, floating point in [-1, 1], on any device.
            sample_rate: samples per second.
            step: batches seen.
            caption: shown beside it, for example the text that is spoken.
        """

    @abstractmethod
    def image(self, name: str, image: NDArray[np.uint8], step: int, caption: str = "") -> None:
        """Report a picture: ``(height, width, 3)``, red, green, blue, the first row on top; captions as for sounds."""

    @abstractmethod
    def text(self, name: str, text: str, step: int) -> None:
        """Report a text of any length."""

    @abstractmethod
    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """Report rows under named columns, for example sentences beside what was recognized."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to continue the same experiment; plain containers."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Continue the experiment of `state_dict`, before the first report; an empty state starts a new one.

        Args:
            state: what `state_dict` returned when the checkpoint was written.
            step: step of the checkpoint. What was reported after it is about to be reported again.
        """

    def close(self) -> None:
        """Write out everything. Nothing is reported afterwards."""


def without_home(value: Any) -> Any:
    """A copy of nested containers; paths below the home folder begin with ``~``, so that no user name is disclosed."""
    if isinstance(value, Mapping):
        return {key: without_home(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_home(item) for item in value]
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        home = str(Path.home())
        return "~" + value[len(home) :] if value == home or value.startswith(home.rstrip("/") + "/") else value
    return value
