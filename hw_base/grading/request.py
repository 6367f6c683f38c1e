"""What all submissions of one command share."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hw_base.grading.contract import Item, TaskGrading
from hw_base.grading.limits import Limits
from hw_base.grading.settings import Settings


@dataclass(frozen=True)
class Request:
    """The hidden data, the config and the limits.

    Attributes:
        task: name of the task.
        grading: of the task.
        items: the hidden utterances.
        settings: the grading config.
        limits: of the prediction stage.
        isolated: False runs submissions unprotected.
        data_digest: hashes of the hidden data.
        adjustments: points that staff give or take: submission -> name -> points.
    """

    task: str
    grading: TaskGrading
    items: list[Item]
    settings: Settings
    limits: Limits
    isolated: bool
    data_digest: dict[str, str]
    adjustments: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """The part of a report that is the same for all submissions."""
        sets = sorted({item.set for item in self.items} - {""})
        canaries = sum(item.altered is not None for item in self.items)
        return {
            "data": {"utterances": len(self.items), "sets": sets, "canaries": canaries, **self.data_digest},
            "config": {"sha256": self.settings.digest(), **self.settings.model_dump(mode="json")},
            "limits": asdict(self.limits),
        }
