"""What a component must keep to, as named properties that ``python -m hw_base.check`` and the tests verify."""

from hw_base.checks import collates, datasets, features, metrics, models, samples, text_encoders
from hw_base.checks.contract import Candidate, Contract, Outcome, broken, expect, expect_close
from hw_base.checks.table import CHECKS, declare

__all__ = [
    "CHECKS",
    "Candidate",
    "Contract",
    "Outcome",
    "broken",
    "collates",
    "datasets",
    "declare",
    "expect",
    "expect_close",
    "features",
    "metrics",
    "models",
    "samples",
    "text_encoders",
]
