"""Messages that depend on where they are given."""

import sys

import pytest

from hw_base.errors import MissingPackageError


@pytest.mark.parametrize(
    ("version", "remedy"),
    [((3, 12, 1), "pip install kenlm"), ((3, 13, 0), "it has no build for Python 3.13, use 3.12")],
)
def test_a_package_without_a_build_for_this_python_is_not_asked_for(monkeypatch, version, remedy):
    monkeypatch.setattr(sys, "version_info", version)
    assert str(MissingPackageError("x", "kenlm")) == f"x needs the package 'kenlm', which is not installed: {remedy}"
    assert str(MissingPackageError("x", "pystoi")).endswith(": pip install pystoi")
