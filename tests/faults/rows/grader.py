"""What submissions may try; the grader's own table says what stops each."""

from hw_base.grading import sandbox
from tests.faults.table import row
from tests.hw_base.grading.attacks import ATTACKS, needs_sandbox, perform, says, survivors


@row(
    20,
    "attacks of submissions on the grader: [docs/grading.md](grading.md) has their table",
    "the exit code and the finding that the table says; nothing outside is seen or changed, no process is left",
    quick=False,
)
def submissions(trials):
    missing = sandbox.problem()
    for attack in ATTACKS:
        if missing is not None and needs_sandbox(attack):
            trials.skip(missing)
            continue
        with trials.trial(attack.name) as folder:
            report = perform(attack, folder / "attack")
            assert report["exit_code"] == attack.exit_code, report["reason"]
            assert not attack.sign or says(report, attack.sign), report["reason"]
            assert not survivors()
