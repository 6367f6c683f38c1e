"""What a submission may use."""

import re
from dataclasses import dataclass, fields, replace
from typing import Any

from hw_base.errors import ConfigError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Limits:
    """Bounds of the prediction stage.

    Attributes:
        time: seconds by the clock.
        memory: bytes, of all processes together.
        disk: bytes that can be written, the copy of the submission included; also what an archive may unpack to.
        processes: processes and threads at any moment.
        printed: bytes on both output streams.
    """

    time: float = 600.0
    memory: int = 8 << 30
    disk: int = 2 << 30
    processes: int = 64
    printed: int = 16 << 20

    @classmethod
    def parse(cls, text: str) -> "Limits":
        """Read ``time=600,memory=8G,disk=2G,processes=64``; what is not named keeps its default.

        Raises:
            ConfigError: an unknown name, or no positive number.
        """
        limits, known = cls(), [field.name for field in fields(cls)]
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = part.partition("=")
            if name not in known:
                raise ConfigError(f"--limits: {name!r} is unknown; known are {', '.join(known)}")
            match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", value.strip().upper().removesuffix("B"))
            number = float(match[1]) * _UNITS[match[2]] if match else 0.0
            if number <= 0:
                raise ConfigError(f"--limits: {name} expects a number above 0, such as 600 or 8G, found {value!r}")
            changed: dict[str, Any] = {name: number if name == "time" else int(number)}
            limits = replace(limits, **changed)
        return limits
