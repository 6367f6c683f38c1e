"""``python -m hw_base.check``: what it prints, its exit codes, and a student's package."""

import json
import subprocess
import sys

import pytest

from hw_base.check import main
from hw_base.registry import DECODERS, MODELS
from tests.conftest import ROOT

HOMEWORK = """
from hw_asr.decoders import GreedyDecoder
from hw_asr.models import DeepSpeech2
from hw_base.registry import DECODERS, MODELS


@MODELS.register()
class Good{0}(DeepSpeech2):
    def __init__(self, n_mels: int, n_tokens: int, n_hidden: int = 16) -> None:
        super().__init__(n_mels, n_tokens, (4,), ((5, 3),), 2, 1, n_hidden, dropout=0.0)


@MODELS.register()
class Wrong{0}(Good{0}):
    def output_lengths(self, length):
        return length


@DECODERS.register()
class Homework{0}Greedy(GreedyDecoder):
    pass
"""


@pytest.fixture
def homework(tmp_path, monkeypatch):
    """A student's package, under a name of its own in each test."""
    name = f"homework_{abs(hash(str(tmp_path))) % 10**8}"
    (tmp_path / f"{name}.py").write_text(HOMEWORK.format(name.removeprefix("homework_")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for registry in (DECODERS, MODELS):  # other tests look at all that is registered
        for key in [key for key in registry if name.removeprefix("homework_") in key]:
            del registry._entries[key]


def test_a_students_package_is_checked_by_the_same_words(homework, capsys):
    number = homework.removeprefix("homework_")
    assert main(["decoders", f"Homework{number}Greedy", "--import", homework]) == 0
    assert "  ok     repeats collapse and blanks keep them apart" in capsys.readouterr().out
    assert main(["models", f"Wrong{number}", "--import", homework, "--args", '{"n_hidden": 8}']) == 1
    shown = capsys.readouterr().out
    assert "  FAILS  output lengths equal the real ones\n           expected: " in shown
    assert "           usual cause: the formula omits a stride" in shown


def test_a_class_is_found_by_its_module_too(homework, capsys):
    number = homework.removeprefix("homework_")
    assert main(["decoders", f"{homework}.Homework{number}Greedy", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["passed"] is True
    names = {one["name"]: one["status"] for one in result["components"][0]["properties"]}
    assert names["texts are those of the tokens"] == "ok"
    assert names["the n best are sorted and distinct"] == "not checked"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["modles", "X"], "no kind of component is named 'modles'. Did you mean 'models'?"),
        (["models", "DeepSpeach2"], "Did you mean 'DeepSpeech2'?"),
        (["models", "DeepSpeech2", "--args", "{n: 1}"], "--args: not JSON"),
        (["models", "DeepSpeech2", "--args", "[1]"], "expected an object in braces"),
        (["models", "X", "--import", "no_such_package"], "no_such_package"),
        (["metrics", "--args", "{}"], "name the component"),
    ],
)
def test_wrong_usage_is_said_in_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1


def test_the_program_runs_as_documented():
    command = [sys.executable, "-m", "hw_base.check", "collates"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("collates ASRCollate\n  ok     every item stands in its row\n")
    assert done.stdout.endswith("properties hold, 0 fail, 0 not claimed or not checked\n")
