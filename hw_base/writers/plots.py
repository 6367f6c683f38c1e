"""Pictures for writers, drawn without pyplot's global state, so that nothing piles up over a long run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hw_base.errors import MissingPackageError

Image = NDArray[np.uint8]


def spectrogram_image(
    spectrogram: Tensor,
    title: str = "",
    seconds_per_frame: float | None = None,
    y_label: str = "feature bin",
    width: float = 8.0,
    height: float = 3.0,
) -> Image:
    """A picture of a spectrogram, time to the right, low frequencies at the bottom.

    Args:
        spectrogram (Tensor): ``(F, T)``, on a logarithmic scale for a picture that shows something; any device.
            What is not finite stays white.
        title: shown above; shortened where it would not fit.
        seconds_per_frame: hop length over sample rate; without it the time axis counts frames.
        y_label: what the rows are.
        width: of the picture, in units of 100 pixels.
        height: of the picture, in units of 100 pixels.

    Returns:
        uint8, ``(100 * height, 100 * width, 3)``.

    Raises:
        ValueError: not ``(F, T)``, or nothing in it.
        MissingPackageError: matplotlib is not installed.
    """
    return spectrograms_image({title: spectrogram}, seconds_per_frame, y_label, width, height)


def spectrograms_image(
    spectrograms: Mapping[str, Tensor],
    seconds_per_frame: float | None = None,
    y_label: str = "feature bin",
    width: float = 8.0,
    height: float = 3.0,
) -> Image:
    """Spectrograms below each other, one time axis and color scale, for example before and after an augmentation.

    Args:
        spectrograms: title -> ``(F, T)``; the lengths may differ.
        seconds_per_frame: hop length over sample rate; without it the time axis counts frames.
        y_label: what the rows are.
        width: of the picture, in units of 100 pixels.
        height: of each row, in units of 100 pixels.

    Returns:
        uint8, ``(100 * height * rows, 100 * width, 3)``.

    Raises:
        ValueError: no spectrogram, or one that is not ``(F, T)`` or empty.
        MissingPackageError: matplotlib is not installed.
    """
    if not spectrograms:
        raise ValueError("there is no spectrogram to draw")
    scale = seconds_per_frame or 1.0
    arrays = {title: _finite(values) for title, values in spectrograms.items()}
    longest = max(array.shape[1] for array in arrays.values()) * scale
    shown = np.concatenate([array.compressed() for array in arrays.values()])
    colors = (shown.min(), shown.max()) if len(shown) else (0.0, 1.0)
    figure = figure_of(width, height * len(arrays))
    for index, (title, array) in enumerate(arrays.items(), start=1):
        axes = figure.add_subplot(len(arrays), 1, index)
        extent = (0.0, array.shape[1] * scale, -0.5, array.shape[0] - 0.5)
        drawn = axes.imshow(array, origin="lower", aspect="auto", extent=extent, interpolation="nearest", clim=colors)
        figure.colorbar(drawn, ax=axes, pad=0.01)
        axes.set(ylabel=y_label, xlim=(0.0, longest))
        axes.set_title(one_line(title, int(10 * width)), loc="left", fontsize="medium")
        if index == len(arrays):
            axes.set_xlabel("frame" if seconds_per_frame is None else "time, s")
    return rendered(figure)


def curves_image(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    x_label: str,
    width: float = 5.0,
    columns: int = 3,
) -> Image:
    """Curves side by side, for example metrics against epochs.

    Args:
        panels: title -> name of a curve -> its points (x, y).
        x_label: what x is.
        width: of each panel, in units of 100 pixels; its height is three quarters of that.
        columns: panels in a row.

    Returns:
        uint8, ``(height, width, 3)``.

    Raises:
        ValueError: there is no panel.
        MissingPackageError: matplotlib is not installed.
    """
    if not panels:
        raise ValueError("there is no curve to draw")
    columns = min(columns, len(panels))
    n_rows = -(-len(panels) // columns)
    figure = figure_of(width * columns, 0.75 * width * n_rows)
    for index, (title, curves) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(n_rows, columns, index)
        for name, points in curves.items():
            axes.plot([x for x, _ in points], [y for _, y in points], marker="o", markersize=3, label=name)
        axes.set(xlabel=x_label)
        axes.set_title(one_line(title, int(10 * width)), loc="left", fontsize="medium")
        axes.grid(alpha=0.3)
        if index == 1:
            axes.legend(fontsize="small")
    return rendered(figure)


def matrix_image(
    values: Tensor, rows: Sequence[str], columns: Sequence[str], title: str = "", y_label: str = "", x_label: str = ""
) -> Image:
    """Fractions between 0 and 1 as a table of colors with the percents in it, for example a confusion of letters.

    Colors follow the square root, so that a few percent can be seen.

    Args:
        values (Tensor): ``(R, C)``, in [0, 1].
        rows: names, from the top.
        columns: names.
        title: shown above.
        y_label: what the rows are.
        x_label: what the columns are.

    Returns:
        uint8, ``(height, width, 3)``; it grows with the table.

    Raises:
        ValueError: another shape, or nothing in it.
        MissingPackageError: matplotlib is not installed.
    """
    if not rows or not columns or values.shape != (len(rows), len(columns)):
        raise ValueError(f"{len(rows)} rows and {len(columns)} columns, but values {tuple(values.shape)}")
    fractions = values.detach().cpu().double().numpy()
    figure = figure_of(1.4 + 0.27 * len(columns), 1.2 + 0.22 * len(rows))
    axes = figure.add_subplot()
    axes.imshow(np.sqrt(fractions), cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(columns)), [one_line(name, 12) for name in columns], fontsize=8)
    axes.set_yticks(range(len(rows)), [one_line(name, 12) for name in rows], fontsize=8)
    axes.tick_params(length=0)
    for label in axes.get_xticklabels():
        label.set_rotation(90 if len(label.get_text()) > 2 else 0)
    for i, j in zip(*np.nonzero(fractions >= 0.005), strict=True):
        color = "white" if fractions[i, j] > 0.4 else "black"
        percent = f"{100 * fractions[i, j]:.0f}"
        axes.text(j, i, percent, ha="center", va="center", fontsize=6.5, color=color, in_layout=False)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_title(one_line(title, 10 * len(columns)), loc="left", fontsize="medium")
    return rendered(figure)


def figure_of(width: float, height: float) -> Any:
    """An empty figure of so many times 100 pixels, without pyplot.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("a picture", "matplotlib") from error
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def rendered(figure: Any) -> Image:
    """The pixels of a figure, uint8, ``(height, width, 3)``."""
    figure.canvas.draw()
    image: Image = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    return image


def _finite(values: Tensor) -> Any:
    """The values as an array that hides what is not finite."""
    if values.ndim != 2 or values.numel() == 0:
        raise ValueError(f"a spectrogram must be (F, T) and not empty, found {tuple(values.shape)}")
    return np.ma.masked_invalid(values.detach().cpu().float().numpy())


def one_line(text: str, limit: int) -> str:
    """A title that fits, without meaning to matplotlib."""
    text = " ".join(text.split())
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text.replace("$", r"\$")  # between dollars, matplotlib would read a formula
