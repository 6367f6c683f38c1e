"""A class in one command: bad submissions stop nothing, and a killed run is resumed without redoing what is done."""

import csv
import json
import os
import signal
import time

import numpy as np
import pytest
import soundfile

from hw_base.grading import sandbox
from hw_base.grading.classroom import grade_class
from tests.hw_base.grading.attacks import COMMAND
from tests.hw_base.grading.cases import HONEST, TEXTS, make_request, write_hidden, write_tone

pytestmark = pytest.mark.skipif(sandbox.problem() is not None, reason=str(sandbox.problem()))

# Program -> exit code; what is wrong differs from one to the next.
BAD = {
    "raise SystemExit('no model')": 4,
    "pass": 3,
    "import time; time.sleep(600)": 5,
    "x = bytearray(8 << 30)": 6,
    "os._exit(7)": 4,
    "open('output.json', 'w').write('not json')": 3,
    "open('output.json', 'w').write('[]')": 3,
    "while True: print('x' * 10**6)": 6,
}


def write_class(folder, n_good, n_bad):
    """Good students each with mistakes of their own, and bad ones; the expected exit codes by name."""
    expected = {}
    programs = [(f"answer(lambda n: 'guess {i} of ' + n[:2])", 0) for i in range(n_good)] + list(BAD.items())[:n_bad]
    for i, (code, exit_code) in enumerate(programs):
        name = f"student{i:02d}"
        (folder / name).mkdir(parents=True)
        (folder / name / "main.py").write_text(HONEST + code)
        expected[name] = exit_code
    return expected


def graded(output):
    """Name -> time of change of the reports that are complete."""
    found = {}
    for path in output.glob("*/report.json"):
        if "fingerprint" in json.loads(path.read_text()):
            found[path.parent.name] = path.stat().st_mtime_ns
    return found


def start_and_kill(folder, request, output, after):
    """Grade a class in a process that is killed as soon as so many reports are there."""
    pid = os.fork()
    if pid == 0:
        try:
            grade_class(folder, request, output, jobs=2)
        finally:
            os._exit(0)
    while len(graded(output)) < after:
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    time.sleep(0.3)  # its children get the signal of its death
    return graded(output)


def check(tmp_path, n_good, n_bad, capfd):
    expected = write_class(tmp_path / "class", n_good, n_bad)
    request = make_request(write_hidden(tmp_path / "hidden"), "time=2,memory=2G,disk=20M", command=COMMAND)
    output = tmp_path / "out"
    done = start_and_kill(tmp_path / "class", request, output, after=2)
    assert 2 <= len(done) < len(expected)
    reports = grade_class(tmp_path / "class", request, output, jobs=2)
    assert {report["submission"]["name"]: report["exit_code"] for report in reports} == expected
    assert {name: graded(output)[name] for name in done} == done
    assert capfd.readouterr().out.count("done already") == len(done)
    rows = list(csv.DictReader((output / "table.csv").open()))
    assert [row["submission"] for row in rows] == sorted(expected)
    page = (output / "table.html").read_text()
    assert all(f"{name}/report.html" in page for name in expected)
    assert "://" not in page
    before = graded(output)
    grade_class(tmp_path / "class", request, output, jobs=1)
    assert graded(output) == before
    return output, request


def test_a_class_is_graded_and_resumed(tmp_path, capfd):
    output, request = check(tmp_path, 3, 3, capfd)
    # What has changed, and nothing else, is graded again.
    before = graded(output)
    (tmp_path / "class" / "student00" / "main.py").write_text(HONEST + "answer(lambda n: 'better')")
    reports = grade_class(tmp_path / "class", request, output, jobs=1)
    assert {name for name, at in graded(output).items() if at != before[name]} == {"student00"}
    assert reports[0]["utterances"][0]["prediction"] == "better"


@pytest.mark.slow
def test_a_class_of_twenty_with_eight_bad_ones(tmp_path, capfd):
    check(tmp_path, 12, 8, capfd)


def test_a_grader_that_dies_is_reported_as_such(tmp_path, monkeypatch):
    write_class(tmp_path / "class", 1, 0)
    request = make_request(write_hidden(tmp_path / "hidden"), command=COMMAND)
    monkeypatch.setattr("hw_base.grading.classroom.grade", lambda *arguments: os._exit(3))
    report = grade_class(tmp_path / "class", request, tmp_path / "out", jobs=1)[0]
    assert report["exit_code"] == 8
    assert "ended with 3" in report["reason"]


def test_names_do_not_steer_the_table(tmp_path):
    (tmp_path / "class" / "=cmd()<script>").mkdir(parents=True)
    rows = [{"id": key, "pred_text_argmax": text} for key, text in TEXTS.items()]
    (tmp_path / "class" / "=cmd()<script>" / "output.json").write_text(json.dumps(rows))
    grade_class(tmp_path / "class", make_request(write_hidden(tmp_path / "hidden")), tmp_path / "out", jobs=1)
    assert "<script>alert" not in (tmp_path / "out" / "table.html").read_text()
    assert "\n=" not in (tmp_path / "out" / "table.csv").read_text()


def test_equal_recordings_are_found_in_a_class(tmp_path):
    hidden = write_hidden(tmp_path / "hidden", canary=False)
    for name, shift in (("ada", 300), ("bob", 300), ("eve", 500)):
        (tmp_path / "class" / name).mkdir(parents=True)
        for i, key in enumerate(TEXTS):
            write_tone(tmp_path / "class" / name / f"{key}.wav", shift + 10 * i)
    request = make_request(hidden, task="tts", metrics=["duration_error"], table=[])
    reports = grade_class(tmp_path / "class", request, tmp_path / "out", jobs=2)
    found = [[finding["name"] for finding in report["findings"]] for report in reports]
    assert found == [["equals_another"], ["equals_another"], []]


def test_recordings_that_are_none_are_named(tmp_path):
    hidden = write_hidden(tmp_path / "hidden", canary=False)
    folder = tmp_path / "class" / "ada"
    folder.mkdir(parents=True)
    write_tone(folder / "utt0.wav", 300, seconds=25)
    (folder / "utt1.wav").write_bytes(b"fLaC not a wav")
    soundfile.write(folder / "utt2.wav", np.full(6400, np.nan), 16000, subtype="FLOAT")
    request = make_request(hidden, task="tts", metrics=["duration_error"], table=[])
    report = grade_class(tmp_path / "class", request, tmp_path / "out", jobs=1)[0]
    assert report["exit_code"] == 0, report["reason"]
    named = {finding["name"]: finding["evidence"] for finding in report["findings"]}
    assert named["absurd_length"] == ["utt0"]
    assert named["unreadable"] == ["utt1", "utt2"]
