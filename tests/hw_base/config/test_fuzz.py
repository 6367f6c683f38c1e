"""Whatever stands in a config or on the command line: a checked config, or a ConfigError of printable lines."""

import copy
import json
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hw_base.config import read as config_files
from hw_base.config import resolve as config
from hw_base.errors import ConfigError
from tests.conftest import ROOT

RAW = {name: config_files.read(ROOT / "configs" / "tiny" / f"{name}.json") for name in ("ds2", "fastspeech2", "vits2")}
QUICK = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

words = st.sampled_from(
    ["type", "args", "data", "train", "DeepSpeech2", "AdamW", "Greedy", "ctc", "min val/cer", "Aligned"]
)
atoms = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
values = st.recursive(
    atoms | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def places(node, here=()):
    if here:
        yield here
    for key, below in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(below, (*here, key))


PLACES = {name: list(places(config.as_dict(config.resolve(raw)))) for name, raw in RAW.items()}
names = st.sampled_from(sorted(RAW))


def checks(raw, overrides=()):
    """Any other error, or a message that cannot be printed, fails the test."""
    try:
        config.resolve(raw, overrides)
    except ConfigError as error:
        str(error).encode()


@QUICK
@given(names, st.data())
def test_any_value_at_any_place_of_a_config(name, data):
    raw = config.as_dict(config.resolve(RAW[name]))
    for *parents, last in data.draw(st.lists(st.sampled_from(PLACES[name]), min_size=1, max_size=2)):
        node = raw
        for key in parents:
            try:
                node = node[key]
            except (KeyError, IndexError, TypeError):
                break
        if isinstance(node, dict) or (isinstance(node, list) and isinstance(last, int) and last < len(node)):
            node[last] = data.draw(values)
    checks(raw)


@QUICK
@given(names, st.data())
def test_any_override(name, data):
    key = st.sampled_from(PLACES[name]).map(lambda path: ".".join("*" if key == 0 else str(key) for key in path))
    value = values.map(json.dumps) | st.text(max_size=12) | st.text(string.punctuation, max_size=8)
    known = st.tuples(key | st.text(string.ascii_lowercase + ".*0", max_size=12), value).map("=".join)
    checks(RAW[name], data.draw(st.lists(known | st.text(max_size=12), max_size=3)))


@QUICK
@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode) | values.map(lambda v: json.dumps(v).encode()))
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_any_file(tmp_path_factory, suffix, content):
    path = tmp_path_factory.getbasetemp() / f"fuzzed.{suffix}"
    path.write_bytes(content)
    try:
        raw = config.read(path)
    except ConfigError as error:
        str(error).encode()
    else:
        checks(raw)
        checks({**copy.deepcopy(RAW["ds2"]), **raw})
