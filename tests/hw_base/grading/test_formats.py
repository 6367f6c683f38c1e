"""The files of other systems against the shapes that those document."""

import csv
import io
import json

import jsonschema
import pytest

from hw_base.grade import main
from hw_base.grading import formats
from hw_base.grading.single import grade
from tests.hw_base.grading.cases import TEXTS, make_request, write_hidden

# https://gradescope-autograders.readthedocs.io/en/latest/specs/#output-format
_VISIBILITY = {"enum": ["hidden", "after_due_date", "after_published", "visible"]}
GRADESCOPE = {
    "type": "object",
    "anyOf": [{"required": ["score"]}, {"properties": {"tests": {"minItems": 1}}, "required": ["tests"]}],
    "properties": {
        "score": {"type": "number"},
        "max_score": {"type": "number"},
        "execution_time": {"type": "number"},
        "output": {"type": "string"},
        "visibility": _VISIBILITY,
        "stdout_visibility": _VISIBILITY,
        "extra_data": {"type": "object"},
        "tests": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "score": {"type": "number"},
                    "max_score": {"type": "number"},
                    "status": {"enum": ["passed", "failed"]},
                    "name": {"type": "string"},
                    "number": {"type": "string"},
                    "output": {"type": "string"},
                    "visibility": _VISIBILITY,
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
CLASSROOM50 = {
    "type": "object",
    "required": ["schema", "score", "max-score", "tests"],
    "properties": {
        "schema": {"const": "classroom50/result/v1"},
        "score": {"type": "integer"},
        "max-score": {"type": "integer"},
        "tests": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["test-name", "passed", "score", "max-score"],
                "properties": {
                    "test-name": {"type": "string"},
                    "passed": {"type": "boolean"},
                    "score": {"type": "integer"},
                    "max-score": {"type": "integer"},
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
TABLE = [{"score": 5, "metric": "cer", "at_most": 0.9}, {"score": 9.5, "metric": "wer", "at_most": 0.01}]


@pytest.fixture
def hidden(tmp_path):
    return write_hidden(tmp_path / "hidden")


def hand_in(folder, rows):
    folder.mkdir()
    (folder / "output.json").write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return folder


RIGHT = [{"id": key, "pred_text_argmax": text} for key, text in TEXTS.items()]


@pytest.mark.parametrize(
    "rows", [RIGHT, [{"id": "utt0", "pred_text_argmax": "x"}], "broken"], ids=["good", "poor", "bad"]
)
def test_files_of_other_systems(hidden, tmp_path, rows):
    request = make_request(hidden, table=TABLE, floor=1)
    report = grade(hand_in(tmp_path / "in", rows), "ada", request, tmp_path / "out" / "report.json")
    first = json.loads(formats.write("gradescope", tmp_path, [report]).read_text())
    jsonschema.validate(first, GRADESCOPE)
    second = json.loads(formats.write("classroom50", tmp_path, [report]).read_text())
    jsonschema.validate(second, CLASSROOM50)
    assert (
        first["score"] == {5: 9.5, 1: 1.0, 0: 0.0}[sum(row["prediction"] != "" for row in report.get("utterances", []))]
    )
    assert second["score"] == round(first["score"])
    assert first["stdout_visibility"] == "hidden"
    row = next(csv.DictReader(io.StringIO(formats.write("otter", tmp_path, [report]).read_text())))
    assert float(row["score"]) == first["score"]


def test_classroom50_gets_0_whenever_there_is_a_report(hidden, tmp_path, capsys):
    hand_in(tmp_path / "in", "broken")
    command = ["--submission", str(tmp_path / "in"), "--task", "asr", "--data", str(hidden)]
    output = ["-o", str(tmp_path / "out" / "report.json")]
    assert main([*command, *output]) == 3
    assert main([*command, *output, "--format", "classroom50"]) == 0
    assert json.loads((tmp_path / "out" / "result.json").read_text())["score"] == 0


def test_a_formula_is_no_formula_in_a_table():
    assert formats.table(["a"], [{"a": "=1+1"}, {"a": "plain"}, {"a": -1.5}]) == "a\n'=1+1\nplain\n-1.5\n"
