"""The help of every program: it ends with examples that parse, and a shell can complete its options."""

import importlib
import os
import re
import shlex
import subprocess
import sys

import pytest

import test as test_script
import train as train_script
from hw_base.runs.parser import Parser
from tests.conftest import ROOT

MARK = "# PYTHON_ARGCOMPLETE_OK\n"
INNER = (
    "hw_base/synthetic/espeak_worker.py",
    "hw_base/grading/pid1.py",
    "hw_base/grading/predict.py",
)  # not for people
FILES = [path for package in ("hw_base", "hw_asr", "hw_tts") for path in sorted((ROOT / package).rglob("*.py"))]
FILES = [path for path in FILES if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")]
PROGRAMS = [name for path in FILES if (name := str(path.relative_to(ROOT))) not in INNER] + ["train.py", "test.py"]


class ParsedError(Exception):
    """The command line was understood."""


def main_of(program):
    if program in ("train.py", "test.py"):
        return (train_script if program == "train.py" else test_script).main
    return importlib.import_module(program.removesuffix(".py").replace("/", ".")).main


def test_there_are_programs():
    assert len(PROGRAMS) > 20


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_ends_with_examples_that_parse(program, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        main_of(program)(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    examples = re.findall(r"^  python (.*)$", shown[shown.index("\nexamples:\n") :], re.MULTILINE)
    assert examples

    understand = Parser.parse_args

    def only_parse(self, args=None, namespace=None):
        understand(self, args, namespace)
        raise ParsedError

    monkeypatch.setattr(Parser, "parse_args", only_parse)
    for example in examples:
        words = shlex.split(example)
        module = program.removesuffix(".py").removesuffix("/__main__").replace("/", ".")
        named = ["-m", module] if "/" in program else [program]
        assert words[: len(named)] == named
        with pytest.raises(ParsedError):
            main_of(program)(words[len(named) :])


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_is_marked_for_completion(program):
    assert (ROOT / program).read_text(encoding="utf-8").startswith(MARK)


def test_a_shell_completes_options(tmp_path):
    """As bash asks: by the line and the cursor in the environment."""
    pytest.importorskip("argcomplete", reason="completes")
    line, answer = "list.py --im", tmp_path / "answer"
    environment = {**os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    environment |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_COMP_WORDBREAKS": " ", "IFS": "\013"}
    command = [sys.executable, "-m", "hw_base.list"]
    subprocess.run(command, cwd=ROOT, env=environment, timeout=120, check=True, stdout=subprocess.DEVNULL)
    assert "--import" in answer.read_text()
