"""The page of a sweep: how much each key matters, every trial's value, and the values over each key."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_base.errors import ConfigError, MissingPackageError
from hw_base.storage import write_text

_HEIGHT = 320  # pixels of each picture


def write(path: Path, monitor: str, trials: Sequence[Mapping[str, Any]], importance: Mapping[str, float]) -> None:
    """Write a page that opens without a network.

    Args:
        path: of the page.
        monitor: what was searched for.
        trials: as in ``trials.json``.
        importance: key -> share of the variation that it explains; empty where that is not known yet.

    Raises:
        ConfigError: it cannot be written.
        MissingPackageError: plotly is not installed.
    """
    try:
        from plotly import graph_objects
        from plotly.subplots import make_subplots
    except ImportError as error:
        raise MissingPackageError("the page of hw_base.sweep", "plotly") from error
    known = [trial for trial in trials if trial["value"] is not None]
    keys = list(dict.fromkeys(key for trial in trials for key in trial["set"]))
    titles = ["importance", "trials", *map(html.escape, keys)]
    figure = make_subplots(rows=len(titles), cols=1, subplot_titles=titles, vertical_spacing=0.35 / len(titles))
    order = sorted(importance, key=importance.__getitem__)
    bars = graph_objects.Bar(x=[importance[key] for key in order], y=list(map(html.escape, order)), orientation="h")
    figure.add_trace(bars, row=1, col=1)
    values = [trial["value"] for trial in known]
    names = [f"trial {trial['trial']}" for trial in known]
    for row, x in enumerate([[trial["trial"] for trial in known], *_columns(known, keys)], start=2):
        figure.add_trace(graph_objects.Scatter(x=x, y=values, text=names, mode="markers"), row=row, col=1)
        figure.update_yaxes(title=html.escape(monitor), row=row, col=1)
    title = f"{html.escape(monitor)}: {len(known)} of {len(trials)} trials gave a value"
    figure.update_layout(title=title, showlegend=False, height=_HEIGHT * len(titles), template="plotly_white")
    try:
        write_text(path, figure.to_html(include_plotlyjs=True, full_html=True))
    except OSError as error:
        raise ConfigError(f"-o {path}: cannot be written: {error.strerror}") from None


def _columns(trials: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[list[Any]]:
    """For each key its values; those that are no numbers as text."""
    columns = []
    for key in keys:
        values = [trial["set"].get(key) for trial in trials]
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        columns.append(values if numbers else [html.escape(str(value)) for value in values])
    return columns
