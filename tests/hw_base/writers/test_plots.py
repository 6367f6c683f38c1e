"""Pictures: what is drawn is where it should be, and nothing is kept."""

import gc
import sys

import numpy as np
import pytest
import torch

from hw_base.errors import MissingPackageError
from hw_base.writers import plots

pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib")

YELLOW, PURPLE = (253, 231, 37), (68, 1, 84)  # the ends of matplotlib's default colors


def found(image, color):
    """Rows and columns where a color stands, left of the color bar."""
    near = (np.abs(image[:, : int(0.86 * image.shape[1])].astype(int) - color) <= 2).all(axis=-1)
    return np.nonzero(near)


def widths(image, color):
    """Pixels of a color in each row; those of the color bars are few."""
    return (np.abs(image.astype(int) - color) <= 2).all(axis=-1).sum(axis=1)


def test_picture_has_the_promised_shape_and_orientation():
    spectrogram = torch.zeros(20, 50)
    spectrogram[:5, 40:] = 1.0  # low frequencies, at the end
    image = plots.spectrogram_image(spectrogram, "title")
    assert image.dtype == np.uint8
    assert image.shape == (300, 800, 3)
    rows, columns = found(image, YELLOW)
    low_rows, low_columns = found(image, PURPLE)
    height = low_rows.max() - low_rows.min()
    assert rows.min() > low_rows.min() + 0.7 * height
    assert rows.max() >= low_rows.max()
    assert columns.min() > low_columns.min() + 0.75 * (columns.max() - low_columns.min())


def test_a_shorter_one_ends_earlier_on_the_common_axis_and_shares_the_colors():
    image = plots.spectrograms_image(
        {"before": torch.zeros(8, 100), "after": torch.ones(8, 50)}, seconds_per_frame=0.01
    )
    assert image.shape == (600, 800, 3)
    before, after = widths(image, PURPLE), widths(image, YELLOW)
    assert np.nonzero(before > 50)[0].max() < np.nonzero(after > 50)[0].min()
    assert after.max() / before.max() == pytest.approx(0.5, abs=0.02)


def test_what_is_not_finite_stays_white():
    spectrogram = torch.linspace(0, 1, 200).reshape(10, 20)
    spectrogram[:, 10:] = float("nan")
    spectrogram[:, 15:] = -float("inf")
    whole = plots.spectrogram_image(torch.linspace(0, 1, 200).reshape(10, 20))
    image = plots.spectrogram_image(spectrogram)
    inner = (slice(40, 220), slice(450, 650))
    assert (image[inner] == 255).all()
    assert not (whole[inner] == 255).all()
    assert plots.spectrogram_image(torch.full((3, 4), float("nan"))).shape == (300, 800, 3)


@pytest.mark.parametrize("title", ["a $ b $ c", "$\\broken{$", "two\nlines", "x" * 500])
def test_any_transcript_can_be_the_title(title):
    spectrogram = torch.arange(36.0).reshape(4, 9)
    image, blank = plots.spectrogram_image(spectrogram, title), plots.spectrogram_image(spectrogram)
    assert not np.array_equal(image, blank)
    assert (image[:, -1] == 255).all()


@pytest.mark.parametrize("shape", [(3,), (1, 3, 4), (0, 4), (4, 0)])
def test_what_is_no_spectrogram_is_refused(shape):
    with pytest.raises(ValueError, match=r"must be \(F, T\) and not empty"):
        plots.spectrogram_image(torch.zeros(shape))


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="no spectrogram"):
        plots.spectrograms_image({})


def test_no_figure_is_kept():
    from matplotlib.figure import Figure

    for _ in range(3):
        plots.spectrogram_image(torch.rand(4, 9))
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is Figure]
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match="pip install matplotlib"):
        plots.spectrogram_image(torch.rand(4, 9))
