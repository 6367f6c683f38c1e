"""The findings as one HTML file with embedded pictures."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from hw_base.errors import MissingPackageError
from hw_base.examinations.findings import Finding

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title><style>
body { font: 16px/1.4 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
article { border-left: .4rem solid #2a7; padding: .2rem 1rem; margin: .8rem 0; background: #f7f7f7 }
article.warning { border-color: #e90 } article.error { border-color: #c22 } img { max-width: 100% }
</style></head><body><h1>{{ title }}</h1><p>{{ summary }}</p>
{% for one in findings %}<article class="{{ one.level }}"><b>{{ one.level }}: {{ one.what }}</b>
<p>{{ one.evidence }}</p>
{% if one.level != "ok" %}<ol>{% for cause in one.causes %}<li>{{ cause }}</li>{% endfor %}</ol>
<p>What to do: {{ one.advice }}</p>{% endif %}
{% if one.picture %}<img alt="{{ one.what }}" src="data:image/png;base64,{{ images[loop.index0] }}">{% endif %}
</article>{% endfor %}</body></html>
"""


def write(path: Path, title: str, summary: str, findings: Sequence[Finding]) -> None:
    """Write the page.

    Raises:
        MissingPackageError: Jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingPackageError("--html", "jinja2") from error
    images = [base64.b64encode(one.picture or b"").decode() for one in findings]
    template = jinja2.Environment(autoescape=True).from_string(_PAGE)
    path.parent.mkdir(parents=True, exist_ok=True)
    page = template.render(title=title, summary=summary, findings=findings, images=images)
    path.write_text(page + "\n", encoding="utf-8")


def plot(
    x: Sequence[float], y: Sequence[float], x_label: str, y_label: str, log_x: bool = False, mark: float | None = None
) -> bytes:
    """A curve as PNG, with a line at the place that is marked."""

    def draw(axes) -> None:  # type: ignore[no-untyped-def]
        axes.plot(x, y)
        if mark is not None:
            axes.axvline(mark, color="tab:red", linestyle="--", label=f"configured: {mark:.2g}")
            axes.legend()

    return _drawn(draw, x_label, y_label, log_x)


def histogram(values: Sequence[float], label: str) -> bytes:
    """A histogram as PNG."""
    return _drawn(lambda axes: axes.hist(values, bins=30), label, "utterances", False)


def _drawn(draw, x_label: str, y_label: str, log_x: bool) -> bytes:  # type: ignore[no-untyped-def]
    try:
        from matplotlib.figure import Figure
    except ImportError:  # the page is of use without pictures too
        return b""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    draw(axes)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if log_x:
        axes.set_xscale("log")
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()
