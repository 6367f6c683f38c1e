"""Sections as one HTML page or as Markdown with its files. Everything that comes from a run is escaped."""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_base.errors import ConfigError, MissingPackageError
from hw_base.reports.blocks import Clip, Curves, Pairs, Section, shown
from hw_base.reports.language import Language
from hw_base.storage import replacing
from hw_base.writers import plots
from hw_base.writers.media import png_bytes

_TEMPLATES = Path(__file__).parent / "templates"
LARGEST = 10_000_000  # bytes of a page
_MOST_PANELS = 30
_SUFFIX = {"audio/flac": ".flac", "image/webp": ".webp"}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~$&])")


@dataclass(frozen=True)
class Word:
    """One column of an alignment: ``mark`` is ``same``, ``substituted``, ``deleted`` or ``inserted``."""

    above: str
    below: str
    mark: str


def plotly_script() -> str:
    """Plotly's JavaScript, which its Python package brings along.

    Raises:
        MissingPackageError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingPackageError("hw_base.report", "plotly") from error
    script: str = get_plotlyjs()
    return script


def html(title: str, sections: Sequence[Section], say: Language, plotly: str) -> str:
    """The page.

    The scripts are allowed by their hashes, so that nothing from a run can be executed even if escaping failed, and
    the page may load nothing from anywhere.
    """
    scripts = [plotly, (_TEMPLATES / "page.js").read_text(encoding="utf-8")]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    return _fill("report.html", title=title, sections=sections, say=say, scripts=scripts, hashes=hashes)


def markdown(title: str, sections: Sequence[Section], say: Language, folder: Path) -> str:
    """The same as Markdown; sounds and pictures become files in `folder`, beside the text.

    Raises:
        ConfigError: they cannot be written.
    """
    files = _Files(folder)
    return _fill("report.md", title=title, sections=sections, say=say, files=files)


def write(path: Path, text: str, option: str = "-o") -> None:
    """Replace a file atomically.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        with replacing(path) as scratch:
            scratch.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be written: {error.strerror}") from None


def words(pairs: Pairs) -> list[Word]:
    """The columns of an alignment."""
    columns = []
    for left, right in pairs:
        mark = (
            "inserted" if left is None else "deleted" if right is None else "same" if left == right else "substituted"
        )
        columns.append(Word(left or "", right or "", mark))
    return columns


def data_url(clip: Clip) -> str:
    """The content of a clip as the address of itself."""
    return f"data:{clip.mime};base64,{base64.b64encode(clip.content or b'').decode()}"


def escape_markdown(value: Any) -> str:
    """Text on one line without any meaning to Markdown or HTML."""
    return _MARKDOWN.sub(r"\\\1", " ".join(shown(value).split())).replace("\\<", "&lt;").replace("\\&", "&amp;")


class _Files:
    """Numbered files of a Markdown report."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def clip(self, clip: Clip) -> str:
        """Write a sound or picture; its path in the text."""
        return self._write(clip.content or b"", _SUFFIX[clip.mime])

    def curves(self, block: Curves) -> str:
        """Draw all metrics; the path of the picture."""
        panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for curve in block.curves:
            points = [(float(step), value) for step, value in zip(curve.steps, curve.values, strict=True)]
            panels.setdefault(curve.metric, {})[f"{curve.run}: {curve.split}"] = points
        panels = dict(list(panels.items())[:_MOST_PANELS])
        return self._write(png_bytes(plots.curves_image(panels, "step")), ".png")

    def _write(self, content: bytes, suffix: str) -> str:
        self._count += 1
        path = self._folder / f"{self._count:03d}{suffix}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise ConfigError(f"--markdown {path}: cannot be written: {error.strerror}") from None
        return f"{self._folder.name}/{path.name}".replace(" ", "%20")


def _fill(template: str, **values: Any) -> str:
    try:
        from jinja2 import Environment, FileSystemLoader
    except ImportError as error:
        raise MissingPackageError("hw_base.report", "jinja2") from error
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=template.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    environment.filters |= {"shown": shown, "words": words, "data_url": data_url, "md": escape_markdown}
    return environment.get_template(template).render(**values) + "\n"
