"""Score tables, limits and grading configs."""

import json

import pytest

from hw_asr.evaluation import course
from hw_base.errors import ConfigError
from hw_base.grading import settings
from hw_base.grading.limits import Limits
from hw_base.grading.settings import Settings, points
from tests.conftest import ROOT

FILES = sorted((ROOT / "configs" / "grading").glob("*.json"))


def table(*rows, **others):
    return Settings.model_validate({"task": "asr", "table": list(rows), "max_score": 10, **others})


TWO = ({"score": 4, "metric": "wer", "at_most": 0.5}, {"score": 8, "metric": "wer", "at_most": 0.1})


@pytest.mark.parametrize(
    ("wer", "plain", "straight"), [(0.6, 1, 1), (0.5, 4, 4), (0.3, 4, 6), (0.1, 8, 8), (0.0, 8, 8)]
)
def test_points_of_a_table(wer, plain, straight):
    for interpolate, expected in ((False, plain), (True, straight)):
        score, rows = points(table(*TWO, interpolate=interpolate, floor=1), {"": {"wer": wer}})
        assert score == pytest.approx(expected)
        assert [row["reached"] for row in rows] == [wer <= 0.5, wer <= 0.1]


def test_a_bound_from_below_and_a_sum():
    rows = [*TWO, {"score": 3, "metric": "speaker_similarity", "at_least": 0.7}]
    found = {"": {"wer": 0.2, "speaker_similarity": 0.7}}
    assert points(table(*rows, combine="sum"), found)[0] == 7
    assert points(table(*rows), found)[0] == 4
    assert points(table(*rows, combine="sum"), {"": {"wer": 0.0, "speaker_similarity": 0.9}})[0] == 10


def test_a_set_that_was_not_measured_gives_nothing():
    row = {"score": 9, "metric": "wer", "at_most": 0.2, "set": "test-other"}
    score, rows = points(table(row, floor=1), {"": {"wer": 0.1}})
    assert (score, rows[0]["found"], rows[0]["reached"]) == (1, None, False)
    assert points(table(row), {"": {"wer": 0.9}, "test-other": {"wer": 0.15}})[0] == 9


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_configs_are_accepted_and_say_their_command(path):
    loaded = settings.load(path, json.loads(path.read_text())["task"])
    assert f"-c {path.relative_to(ROOT)}" in loaded.about[0]


@pytest.mark.parametrize("name", ["ctc", "rnnt"])
@pytest.mark.parametrize("rates", [(0.05, 0.01), (0.19, 0.06), (0.29, 0.12), (0.45, 0.25), (0.95, 0.6)])
def test_the_course_tables_are_those_of_the_score_program(name, rates):
    loaded = settings.load(ROOT / "configs" / "grading" / f"course_{name}.json", "asr")
    found = dict(zip(("wer", "cer"), rates, strict=True))
    clean = points(loaded, {"": found, "test-clean": found})[0]
    assert clean == course.quality_score(name, "test-clean", *rates)
    other = points(loaded, {"": found, "test-other": found})[0]
    assert other == max(1.0, course.quality_score(name, "test-other", *rates))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"tabel": []}, "tabel"),
        ({"table": [{"score": 1, "metric": "wer"}]}, "at_most or at_least"),
        ({"output": "../x"}, "inside the submission"),
        ({"task": "tts"}, "expected 'asr'"),
    ],
)
def test_a_wrong_config_is_refused(tmp_path, raw, message):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"task": "asr", **raw}))
    with pytest.raises(ConfigError, match=message):
        settings.load(path, "asr")


def test_limits_are_read():
    assert Limits.parse("time=1.5,memory=2G, disk=10M") == Limits(time=1.5, memory=2 << 30, disk=10 << 20)
    assert Limits.parse("") == Limits()
    for text, message in (("tim=1", "unknown"), ("time=0", "above 0"), ("memory=lots", "above 0")):
        with pytest.raises(ConfigError, match=message):
            Limits.parse(text)
