"""The fixed sentences of a report in another language: a catalog beside this module, English without one."""

import json
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
LANGUAGES = ("en", "ru")


class Language:
    """Translates sentences; called with one and its values.

    Args:
        name: of `LANGUAGES`.

    Attributes:
        name: as given.
        missing: sentences that the catalog lacks; they stay English.
    """

    def __init__(self, name: str = "en") -> None:
        self.name = name
        self.missing: set[str] = set()
        self._catalog: dict[str, str] = {}
        if name != "en":
            self._catalog = json.loads((_HERE / f"{name}.json").read_text(encoding="utf-8"))

    def __call__(self, sentence: str, **values: Any) -> str:
        """The sentence with ``{name}`` replaced by the values, as `str.format` does."""
        found = self._catalog.get(sentence)
        if found is None and self.name != "en":
            self.missing.add(sentence)
        text = found or sentence
        return text.format(**values) if values else text  # names from runs may hold braces
