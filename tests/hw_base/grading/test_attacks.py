"""Every attack for real: how the grading ends, what the report says, and that nothing outside was touched."""

import json

import pytest

from hw_base.grading import report as reports
from hw_base.grading import sandbox
from hw_base.grading.running import _read_model
from tests.conftest import ROOT
from tests.hw_base.grading.attacks import ATTACKS, HEAD, MARK, needs_sandbox, perform, says, survivors
from tests.hw_base.grading.cases import SECRET


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name.replace(" ", "_"))
def test_attack(attack, tmp_path):
    if needs_sandbox(attack) and sandbox.problem() is not None:
        pytest.skip(sandbox.problem())
    folder = tmp_path / "attack"
    report = perform(attack, folder)
    assert report["exit_code"] == attack.exit_code, report["reason"]
    assert says(report, attack.sign) or not attack.sign
    assert not survivors()
    assert not list(tmp_path.parent.rglob("hw_attack"))
    assert not (ROOT / "tmp" / MARK).exists()
    on_disk = json.loads((folder / "out" / "report.json").read_text())
    assert on_disk["exit_code"] == attack.exit_code
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.validate(on_disk, reports.schema())
    if attack.code is not None and on_disk["grade"] is not None:
        assert on_disk["grade"]["score"] == 0
        predictions = [row["prediction"] for row in on_disk["utterances"]]
        assert not [text for text in predictions if SECRET in text]


@pytest.mark.parametrize("content", ["[" * 100_000, '{"model": "a", "parameters": 1e999}', "[]", '{"model": 1}', "\0"])
def test_a_description_of_a_model_that_cannot_be_read_is_left_out(content, tmp_path):
    (tmp_path / "model.json").write_text(content)
    assert _read_model(tmp_path / "model.json") == {}


def test_the_documentation_quotes_the_table():
    page = (ROOT / "docs" / "grading.md").read_text(encoding="utf-8")
    assert HEAD in page
    for attack in ATTACKS:
        assert attack.row in page
