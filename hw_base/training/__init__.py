"""The training loop and what it works with."""

from hw_base.training import schedules

__all__ = ["schedules"]
