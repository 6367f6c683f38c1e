"""The package says where its public names are, and they are there."""

import importlib
import re

import hw_base


def test_every_name_of_the_docstring_is_there():
    names = re.findall(r"``(hw_base[\w.]*)``", hw_base.__doc__)
    assert len(names) > 5
    for name in names:
        module, _, attribute = name.rpartition(".")
        if module == "hw_base":
            importlib.import_module(name)
        else:
            assert attribute in vars(importlib.import_module(module))
