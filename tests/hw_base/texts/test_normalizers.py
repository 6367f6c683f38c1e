"""Normalizers of texts, and what a report says of them."""

import pytest

from hw_base.texts import normalizers


@pytest.mark.parametrize(
    ("kind", "expected"), [("none", "Don\u2019t, stop!"), ("lower", "don\u2019t, stop!"), ("letters", "don't stop")]
)
def test_each_keeps_less_than_the_one_before(kind, expected):
    assert normalizers.normalizer(kind)(" Don\u2019t,  stop!\n") == expected


def test_a_report_tells_normalizers_apart():
    letters, lower = (normalizers.identity(kind) for kind in ("letters", "lower"))
    assert letters == normalizers.identity("letters") | {"name": "letters", "version": normalizers.VERSION}
    assert letters["sha256"] != lower["sha256"]
