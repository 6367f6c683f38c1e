"""What decoders read of a model's outputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hw_asr.decoders.base import BaseDecoder
from hw_base.registry import DECODERS


def output_read(decoder: str) -> str:
    """Which output of a model the decoders of a registered name are called with."""
    target = DECODERS[decoder]
    return target.reads if isinstance(target, type) and issubclass(target, BaseDecoder) else BaseDecoder.reads


def decodable(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a model's outputs those that some decoder reads, (B, T, ...), float32, and ``log_probs_length``."""
    read = {output_read(name) for name in DECODERS}
    kept = {name: output.float() for name, output in outputs.items() if name in read}
    return {**kept, "log_probs_length": outputs["log_probs_length"]}


@dataclass(frozen=True)
class Outputs:
    """Of consecutive frames of one recording.

    Attributes:
        values: by name, each (T, ...); ``log_probs`` among them.
    """

    values: Mapping[str, Tensor]

    @classmethod
    def of_batch(cls, outputs: Mapping[str, Tensor]) -> list["Outputs"]:
        """Each utterance's, of what `decodable` gives."""
        lengths = outputs["log_probs_length"].tolist()
        batch = {name: output for name, output in outputs.items() if name != "log_probs_length"}
        return [cls({name: output[i, :n] for name, output in batch.items()}) for i, n in enumerate(lengths)]

    @classmethod
    def joined(cls, parts: Sequence["Outputs"]) -> "Outputs":
        """Of all frames of parts that follow each other."""
        if len(parts) == 1:
            return parts[0]
        return cls({name: torch.cat([part.values[name] for part in parts]) for name in parts[0].values})

    def __len__(self) -> int:
        return len(self.log_probs)

    def __getitem__(self, kept: slice) -> "Outputs":
        """Of some frames."""
        return Outputs({name: output[kept] for name, output in self.values.items()})

    @property
    def log_probs(self) -> Tensor:
        """Natural log, (T, V)."""
        return self.values["log_probs"]
