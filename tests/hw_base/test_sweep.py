"""Sweeps: what is tried, what crashes, what is resumed. A small program stands for the training, in real processes."""

import json
import os
import signal
import subprocess
import sys

import pytest

from hw_base import sweep
from hw_base.sweep import best_value, main
from tests.conftest import ROOT

pytest.importorskip("optuna", reason="searches")
pytest.importorskip("plotly", reason="draws")
TINY = str(ROOT / "configs" / "tiny" / "ds2.json")
SPACE = {
    "optimizers.model.args.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "model.args.n_layers": {"low": 1, "high": 3},
    "trainer.amp": {"choices": ["off", "auto"]},
}
# Takes the arguments of train.py; what becomes of a trial, the file "fate" says by its folder's name.
STAND_IN = """
import json, os, pathlib, signal, sys, time
arguments = sys.argv[1:]
folder = pathlib.Path(arguments[arguments.index("--run-dir") + 1])
changes = dict(text.split("=", 1) for text in arguments[arguments.index("--set") + 1:])
folder.mkdir(exist_ok=True)
with open(folder / "calls", "a") as file:
    file.write(json.dumps(changes) + "\\n")
known = pathlib.Path(__file__).with_name("fate.json")
fate = json.loads(known.read_text()).pop(folder.name, None) if known.exists() else None
known.unlink(missing_ok=True)
if fate == "crash":
    raise MemoryError("no more memory")
if fate == "kill the sweep":
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
if fate == "interrupted at once":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)
if fate == "interrupted at the end":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.kill(os.getppid(), signal.SIGINT)
if fate == "silent":
    sys.exit(0)
if isinstance(fate, int):
    sys.exit(fate)
lr, layers = float(changes["optimizers.model.args.lr"]), int(changes["model.args.n_layers"])
with open(folder / "metrics.jsonl", "w") as file:
    for step, more in ((1, 0.5), (2, 0.0), (3, 0.1)):
        value = abs(lr - 0.01) + 0.1 * layers + more
        file.write(json.dumps({"step": step, "split": "val", "wer": value}) + "\\n")
"""


@pytest.fixture
def begin(tmp_path):
    (tmp_path / "train.py").write_text(STAND_IN)
    (tmp_path / "search.json").write_text(json.dumps(SPACE))

    def call(n, *more, fate=None):
        if fate:
            (tmp_path / "fate.json").write_text(json.dumps(fate))
        arguments = ["-c", TINY, "--search", str(tmp_path / "search.json"), "-o", str(tmp_path / "sweep")]
        command = (sys.executable, str(tmp_path / "train.py"))
        return main([*arguments, "--trials", str(n), *more], command)

    return call


def trials(tmp_path):
    return json.loads((tmp_path / "sweep" / "trials.json").read_text())


def calls(tmp_path, name):
    return [json.loads(line) for line in (tmp_path / "sweep" / name / "calls").read_text().splitlines()]


def test_trials_are_trainings_of_values_within_the_space_and_the_best_is_told(begin, tmp_path, capsys):
    assert begin(6, "--set", "trainer.max_steps=3") == 0
    found = trials(tmp_path)
    assert [row["folder"] for row in found] == [f"{i:04d}" for i in range(6)]
    for row in found:
        lr, layers, amp = (row["set"][key] for key in SPACE)
        assert 1e-4 <= lr <= 1e-1
        assert layers in (1, 2, 3)
        assert amp in ("off", "auto")
        assert row["value"] == pytest.approx(abs(lr - 0.01) + 0.1 * layers)
        (given,) = calls(tmp_path, row["folder"])
        assert (given["trainer.max_steps"], given["trainer.amp"]) == ("3", json.dumps(amp))
    assert len({row["set"]["optimizers.model.args.lr"] for row in found}) == 6
    best = min(found, key=lambda row: row["value"])
    printed = capsys.readouterr().out
    assert f"best of 6: min val/wer {best['value']:.6g}, in {tmp_path / 'sweep' / best['folder']}\n" in printed
    assert f"python train.py -c {TINY} -d auto --set trainer.max_steps=3 " in printed
    page = (tmp_path / "sweep" / "sweep.html").read_text()
    assert all(key in page for key in (*SPACE, "importance"))
    assert "6 of 6 trials gave a value" in page


def test_a_training_that_crashes_or_says_nothing_does_not_end_the_sweep(begin, tmp_path):
    assert begin(2, fate={"0000": "crash"}) == 0
    assert begin(3, fate={"0002": "silent"}) == 0
    assert begin(5, fate={"0003": 3}) == 0
    found = trials(tmp_path)
    assert [row["state"] for row in found] == ["fail", "complete", "fail", "fail", "complete"]
    assert found[0]["reason"] == "MemoryError: no more memory"
    assert found[2]["reason"] == "no value of min val/wer"
    assert [len(calls(tmp_path, row["folder"])) for row in found] == [1] * 5


def test_a_sweep_that_is_killed_resumes_its_unfinished_trial_with_the_same_values(begin, tmp_path):
    assert begin(1) == 0
    (tmp_path / "fate.json").write_text(json.dumps({"0001": "kill the sweep"}))
    code = f"""
import sys
from hw_base.sweep import main
main(sys.argv[1:], (sys.executable, {str(tmp_path / "train.py")!r}))
"""
    arguments = ["-c", TINY, "--search", str(tmp_path / "search.json"), "-o", str(tmp_path / "sweep"), "--trials", "3"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert begin(3) == 0
    first, second = calls(tmp_path, "0001")
    assert first == second
    assert [(row["folder"], row["state"]) for row in trials(tmp_path)] == [
        ("0000", "complete"),
        ("0001", "complete"),
        (trials(tmp_path)[2]["folder"], "complete"),
    ]


@pytest.mark.parametrize(("code", "ends"), [(75, 75), (143, 143)])
def test_a_training_that_was_asked_to_end_ends_the_sweep_and_is_resumed(code, ends, begin, tmp_path, capsys):
    assert begin(2, fate={"0000": code}) == ends
    assert "the same command resumes it" in capsys.readouterr().err
    assert begin(2) == 0
    assert len(calls(tmp_path, "0000")) == 2
    assert [row["state"] for row in trials(tmp_path)] == ["complete"] * 2


@pytest.mark.parametrize(("fate", "n_calls"), [("interrupted at once", 2), ("interrupted at the end", 1)])
def test_ctrl_c_ends_the_sweep_whatever_the_training_was_doing(fate, n_calls, begin, tmp_path, capsys):
    """While it imports it knows no signals; when it has just ended, its result counts."""
    assert begin(2, fate={"0000": fate}) == 128 + signal.SIGINT
    assert "the same command resumes" in capsys.readouterr().err
    assert not (tmp_path / "sweep" / "0001").exists()
    assert begin(2) == 0
    assert len(calls(tmp_path, "0000")) == n_calls
    assert [row["state"] for row in trials(tmp_path)] == ["complete"] * 2


@pytest.mark.parametrize(
    ("search", "more", "message"),
    [
        ({}, (), "names no key to search"),
        ({"trainer.amp": {"low": 2, "high": 1}}, (), "trainer.amp: expected"),
        ({"trainer.amp": {"low": 0.0, "high": 1.0, "log": True}}, (), "trainer.amp: expected"),
        ({"trainer.amp": {"choices": []}}, (), "trainer.amp: expected"),
        ({"trainer.amp": 3}, (), "trainer.amp: expected"),
        (
            {"trainer.amp": {"choices": ["off", "of"]}},
            (),
            "trainer.amp: expected 'auto', 'measured', 'off', 'bf16' or 'fp16'",
        ),
        ({"model.args.n_hiden": {"low": 8, "high": 9}}, (), "Did you mean 'n_hidden'?"),
        ({"trainer.amp": {"choices": ["off"]}}, ("--monitor", "min test/wer"), "--monitor min test/wer: expected"),
    ],
)
def test_what_cannot_be_searched_is_said_before_anything_is_trained(search, more, message, begin, tmp_path, capsys):
    (tmp_path / "search.json").write_text(json.dumps(search))
    assert begin(2, *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "sweep").exists()


def test_a_folder_is_of_one_sweep(begin, tmp_path, capsys):
    assert begin(1) == 0
    (tmp_path / "search.json").write_text(json.dumps({"trainer.amp": {"choices": ["off", "auto"]}}))
    assert begin(2) == 2
    assert "holds a sweep with another space; choose another folder" in capsys.readouterr().err


def test_a_folder_that_cannot_be_used_is_one_line(begin, tmp_path, capsys):
    (tmp_path / "sweep").write_text("a file")
    assert begin(1) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'sweep'}")
    (tmp_path / "sweep").unlink()
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.db").write_bytes(b"no database" * 1000)
    assert begin(1) == 2
    assert "sweep.db cannot be used: " in capsys.readouterr().err


def test_the_best_value_is_that_of_its_own_split_and_finite(tmp_path):
    rows = [
        {"split": "val", "wer": 0.5},
        {"split": "val", "wer": "NaN"},
        {"split": "test", "wer": 0.1},
        {"split": "val", "cer": 0},
    ]
    (tmp_path / "m").write_text("".join(json.dumps({"step": 1, **row}) + "\n" for row in rows) + '{"half')
    assert best_value(tmp_path / "m", "min val/wer") == 0.5
    assert best_value(tmp_path / "m", "max test/wer") == 0.1
    assert best_value(tmp_path / "m", "min val/loss") is None
    assert best_value(tmp_path / "none", "min val/wer") is None


def test_ctrl_c_reaches_the_training_once(tmp_path):
    """It is passed on by the sweep alone: a second one would end the training without saving."""
    (tmp_path / "train.py").write_text(
        "import pathlib, signal, sys, time\n"
        "got = []\n"
        "signal.signal(signal.SIGINT, lambda n, f: got.append(n))\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "while not got: time.sleep(0.01)\n"
        "time.sleep(0.3)\n"
        "sys.exit(len(got))\n"
    )
    ready = tmp_path / "ready"
    process = subprocess.Popen([sys.executable, str(tmp_path / "train.py"), str(ready)], start_new_session=True)
    with sweep._passed_on(process):
        while not ready.exists():
            pass
        os.kill(os.getpid(), signal.SIGINT)
        assert process.wait() == 1


@pytest.mark.slow
def test_a_sweep_of_real_trainings(tmp_path):
    space = {
        "optimizers.model.args.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "model.args.n_hidden": {"choices": [8, 16]},
    }
    (tmp_path / "search.yaml").write_text(json.dumps(space))
    arguments = ["-c", TINY, "--search", str(tmp_path / "search.yaml"), "-o", str(tmp_path / "sweep"), "--trials", "2"]
    assert main([*arguments, "-d", "cpu", "--set", "trainer.max_steps=2", "trainer.preflight=false"]) == 0
    assert [row["state"] for row in trials(tmp_path)] == ["complete"] * 2
    assert (tmp_path / "sweep" / "0000" / "model_best.pth").exists()
