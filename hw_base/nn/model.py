"""What every network of both tasks is: a module called with a batch that returns named tensors."""

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

# A model whose modules take more lines is summed up.
MAX_LINES = 60


class BaseModel(nn.Module):
    """A network whose parameters may be trained by several optimizers.

    Attributes:
        parameter_group_names: the groups that optimizers are configured for, known before anything is built.
        training_arguments: arguments that change how it is trained, not what its weights mean; `init_from` may meet
            others, all other arguments must be those that the weights were trained with.
        required: what a subclass must define (abstract methods of modules can be called, so they say nothing); see
            `hw_base.registry.lacking`.
    """

    parameter_group_names: ClassVar[tuple[str, ...]] = ("model",)
    training_arguments: ClassVar[tuple[str, ...]] = ()
    required: ClassVar[tuple[str, ...]] = ("forward",)

    @classmethod
    def complete_arguments(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of a config with every default, also those that depend on other arguments."""
        defaults = {key: p.default for key, p in inspect.signature(cls).parameters.items() if p.default is not p.empty}
        return {**defaults, **arguments}

    def forward(self, *args: Any, **batch: Any) -> dict[str, Tensor]:
        """Called as ``model(**batch)``; a subclass names the keys it uses and takes the others as ``**batch``.

        Returns:
            dict: named tensors, merged into the batch for losses, decoders and metrics.
        """
        raise NotImplementedError

    def parameter_groups(self) -> dict[str, nn.Module]:
        """The module that each optimizer trains; keys equal `parameter_group_names`, and no parameter is in two."""
        return {"model": self}

    def parts_by_type(self) -> dict[str, str]:
        """Modules that are models themselves: registered name -> the module's; ``init_from`` may hold one alone."""
        return {}

    def n_parameters(self) -> int:
        """How many numbers training can change."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def summary(self) -> str:
        """The modules; of a large model only how many parameters each part has."""
        whole = repr(self)
        if whole.count("\n") <= MAX_LINES:
            return whole
        lines = [f"{type(self).__name__}: {self.n_parameters():,} trainable parameters"]
        for name, child in self.named_children():
            parts = dict(child.named_children()) or {"": child}
            counts = {part: sum(p.numel() for p in module.parameters()) for part, module in parts.items()}
            shown = ", ".join(f"{part} {count:,}".strip() for part, count in counts.items() if count)
            lines.append(f"  {name} ({type(child).__name__}): {shown}")
        return "\n".join(lines)

    def extra_repr(self) -> str:
        return f"{self.n_parameters():,} trainable parameters"
