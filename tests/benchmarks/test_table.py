"""The page of results is made from the rows that benchmarks leave; nothing is timed here."""

import json
import sys

import pytest

from benchmarks import __main__ as driver
from benchmarks import measuring
from benchmarks.measuring import Row

ROWS = [
    Row("a step", "torchaudio", "fp32 : bf16", 1.89, 2.5, "3.2 s : 1.7 s"),
    Row("decoding", "flashlight", "process time", 37.0, 30.0),
    Row("decoding", "pyctcdecode", "process time", None, 16.0, "not installed"),
]


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--repeats", "2"])
    measuring.write(ROWS[:1], "conformer_step", tmp_path / "conformer_step.json")
    measuring.write(ROWS[1:], "decoding", tmp_path / "decoding.json")
    (tmp_path / "another.json").write_text((tmp_path / "decoding.json").read_text().replace("decoding", "another"))
    return tmp_path


def test_the_page_names_commands_machine_ratios_goals_and_what_falls_short(results):
    contents = driver.results(results)
    assert [one["name"] for one in contents] == ["conformer_step", "decoding", "another"]
    text = driver.page(contents[:2], {"decoding": "failed with code 1", "vits2": "ended after 60 s"})
    assert "1 of 2 goals are met. Not met:" in text
    assert "* conformer_step: a step, torchaudio, fp32 : bf16: 1.89x of 2.5x" in text
    assert f"`python -m benchmarks.conformer_step --repeats 2`, {contents[0]['date']}, one thread of" in text
    assert "| a step | torchaudio | fp32 : bf16 | 1.89x | 2.5x **not met** | 3.2 s : 1.7 s |" in text
    assert "| decoding | flashlight | process time | 37.00x | 30x |  |" in text
    assert "| decoding | pyctcdecode | process time | - | 16x | not installed |" in text
    assert "Of an earlier run: this one failed with code 1." in text
    assert "### vits2\n\nNot measured: ended after 60 s." in text


def test_only_the_marked_part_of_the_page_is_written(tmp_path):
    page = tmp_path / "RESULTS.md"
    page.write_text(f"# Before\n{driver.BEGIN}old\n{driver.END}after\n")
    driver.rewrite(page, "new\n")
    driver.rewrite(page, "newer\n")
    assert page.read_text() == f"# Before\n{driver.BEGIN}\nnewer\n\n{driver.END}after\n"
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="are missing"):
        driver.rewrite(page, "new")
    assert page.read_text() == "no marks"


def test_the_page_of_results_has_the_marks_and_every_benchmark_is_there():
    text = driver.PAGE.read_text(encoding="utf-8")
    assert text.count(driver.BEGIN) == text.count(driver.END) == 1
    for name, _, _ in driver.BENCHMARKS + driver.IF_TIME_IS_LEFT:
        assert driver.PAGE.with_name(f"{name}.py").is_file()
    assert sum(seconds for _, _, seconds in driver.BENCHMARKS) <= 60 * driver.MINUTES


def test_a_benchmark_that_fails_or_takes_too_long_is_said(monkeypatch, capfd):
    assert driver.run("measuring", [], 60) == ""  # a module without a program
    assert driver.run("no_such_one", [], 60) == "failed with code 1"
    assert driver.run("measuring", [], 0.001) == "ended after 0 s"
    assert "No module named benchmarks.no_such_one" in capfd.readouterr().err


def test_small_benchmarks_run_only_where_time_is_left(monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(driver, "run", lambda name, options, seconds: ran.append((name, seconds)) or "")
    names = [name for name, _, _ in driver.BENCHMARKS + driver.IF_TIME_IS_LEFT]
    assert driver.run_all(names, driver.MINUTES) == {}
    assert [name for name, _ in ran] == names
    ran.clear()
    assert driver.run_all(["vits2", "alignment"], 0.0) == {}
    assert ran == [("vits2", 1.0)]
    assert "alignment is left out: " in capsys.readouterr().out


def test_rows_in_json_say_whether_their_goals_are_met(results):
    rows = json.loads((results / "decoding.json").read_text())["rows"]
    assert [row["met"] for row in rows] == [True, None]
