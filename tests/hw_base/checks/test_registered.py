"""Every component of this repository keeps its contract, as ``python -m hw_base.check all`` says."""

import pytest

from hw_base.check import check, names
from hw_base.checks import CHECKS

# Those that need a corpus, a folder or a checkpoint; their own tests give them one.
EVERYTHING = [(kind, name) for kind in CHECKS for name in names(kind)]


@pytest.mark.parametrize(("kind", "name"), EVERYTHING, ids=lambda value: value)
def test_every_component_keeps_its_contract(kind, name):
    outcomes = check(kind, name, None)
    assert [one for one in outcomes if one.holds is False] == []
    if [one.name for one in outcomes] == ["not checked"]:
        pytest.skip(outcomes[0].found)
