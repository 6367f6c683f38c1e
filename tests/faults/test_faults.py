"""A few trials of every quick row of the table of faults; ``make faults`` makes all of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults import __main__ as faults_program
from tests.faults import rows, table  # noqa: F401 - declares the rows
from tests.faults.children import Child
from tests.faults.mutations import __main__ as guards_program
from tests.faults.mutations.guards import GUARDS

QUICK = sorted(number for number, row in table.ROWS.items() if row.quick)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Of a process of its own: rows fork others, for which nothing may have been computed before."""
    output = tmp_path_factory.mktemp("faults") / "faults.json"
    command = [sys.executable, "-m", "tests.faults", "--quick", "--jobs", "1", "-o", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    content = json.loads(output.read_text())
    assert content["complete"]
    return content["rows"]


@pytest.mark.parametrize("number", QUICK, ids=lambda number: f"row{number}")
def test_what_is_injected_is_survived(outcomes, number):
    outcome = outcomes[str(number)]
    assert outcome["misses"] == []
    assert outcome["trials"] == outcome["survived"] > 0 or outcome["skipped"]


def test_a_trial_that_fails_is_a_miss_and_ends_nothing(tmp_path):
    def inject(trials):
        for number in range(3):
            with trials.trial(f"number {number}") as folder:
                assert folder.is_dir()
                assert number != 1, "a wrong number"
        with trials.trial("elsewhere"):
            pytest.skip("not on this machine")

    outcome = table.perform(table.Row(99, "numbers", "all", inject, True), tmp_path, whole=False)
    assert (outcome.trials, outcome.survived, outcome.skipped) == (3, 2, {"not on this machine": 1})
    assert len(outcome.misses) == 1
    assert outcome.misses[0].startswith("number 1: AssertionError: a wrong number")
    assert "(tests/faults/test_faults.py, line " in outcome.misses[0]
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_fails_outside_of_its_trials_is_a_miss(tmp_path):
    outcome = table.perform(
        table.Row(99, "x", "y", lambda trials: pytest.fail("nothing to try"), True), tmp_path, False
    )
    assert (outcome.trials, outcome.survived) == (1, 0)
    assert outcome.misses[0].startswith("the row itself: Failed: nothing to try")


def test_a_child_ends_where_what_it_prints_finds_no_room():
    log = Path("/dev/full")
    if not log.exists():
        pytest.skip("there is no /dev/full here")
    ended = Child(lambda: print("lost", end=""), log)
    assert os.waitstatus_to_exitcode(os.waitpid(ended.pid, 0)[1]) == 0


@pytest.mark.parametrize(
    ("program", "arguments", "line"),
    [
        (faults_program, ["--jobs", "0"], "argument --jobs: "),
        (faults_program, ["--rows", "99"], "no row 99; there are 1, 2, "),
        (guards_program, ["--only", "no such guard"], "no guard's name has 'no such guard' in it"),
    ],
)
def test_a_wrong_command_is_one_line(program, arguments, line, capsys):
    with pytest.raises(SystemExit) as ended:
        program.main(arguments)
    assert ended.value.code == 2
    assert line in capsys.readouterr().err


def test_an_interrupted_run_resumes_and_a_complete_one_starts_anew(tmp_path):
    path = tmp_path / "faults.json"
    number = QUICK[0]
    known = {number: table.Outcome(5, 5), QUICK[1]: table.Outcome(5, 4, ["a miss"])}
    table.save(path, known, complete=False, revision="a", whole=True)
    about = {"revision": "a", "whole": True}
    assert table.restore(path, complete=False, **about) == {number: known[number]}
    assert table.restore(path, complete=False, revision="b", whole=True) == {}
    table.save(path, known, complete=True, **about)
    assert table.restore(path, complete=False, **about) == {}
    assert table.restore(tmp_path / "none.json") == {}


def test_the_page_has_every_row_as_it_is_declared():
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines()
    for number, row in table.ROWS.items():
        (line,) = [line for line in page if line.startswith(f"| {number} | ")]
        assert line.startswith(f"| {number} | {row.fault} | ")
        assert line.endswith(f"| {row.survived} |")


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_the_list_of_guards_is_true(guard):
    """That its test fails without it is what ``python -m tests.faults.mutations`` finds out, in minutes."""
    assert (ROOT / guard.file).read_text(encoding="utf-8").count(guard.old) == 1
    file, _, name = guard.test.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")
    assert guard.new != guard.old
