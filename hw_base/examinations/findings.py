"""One finding: what, how it is known, why it may be, what to do."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hw_base.watch.diagnosis import Diagnosis

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """What an examination found.

    Attributes:
        level: ``error`` where training is of no use before it is mended.
        what: one sentence.
        evidence: numbers and utterance ids.
        causes: the likely ones, in order.
        advice: what to do.
        picture: a PNG for the page.
    """

    level: Level
    what: str
    evidence: str = ""
    causes: Sequence[str] = ()
    advice: str = ""
    picture: bytes | None = None

    def lines(self) -> list[str]:
        """As text."""
        lines = [f"{self.level:7}  {self.what}" + (f": {self.evidence}" if self.evidence else "")]
        if self.level != "ok":
            lines += [f"         may be: {cause}" for cause in self.causes]
            lines += [f"         do: {self.advice}"] if self.advice else []
        return lines

    def diagnosis(self) -> Diagnosis:
        """As a row of ``diagnosis.jsonl``."""
        name = re.sub(r"\W+", "_", self.what).strip("_").lower()
        evidence = {"level": self.level} | ({"found": self.evidence} if self.evidence else {})
        return Diagnosis(name, f"before training: {self.what}", evidence, list(self.causes), self.advice)


def listed(names: list[str], most: int = 5) -> str:
    """Utterance ids for people."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
