"""The README's promises that can be checked without waiting: its commands parse, its files exist."""

import re
import shlex

import pytest

import test as test_script
import train as train_script
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [README, *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md")))]
COMMANDS = [
    line.strip().split("  #")[0].strip()
    for page in PAGES
    for line in page.splitlines()
    if line.startswith("    python ")
]


def test_there_are_commands():
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.split()[1] in ("train.py", "test.py")])
def test_options_of_the_commands_exist(command, tmp_path, monkeypatch, capsys):
    """Parsing comes first: what is named may be missing (exit code 2 with one line), an option may not."""
    monkeypatch.chdir(tmp_path)
    script, *arguments = shlex.split(command)[1:]
    arguments = [str(ROOT / a) if a.startswith("configs/") else a for a in arguments]
    main = train_script.main if script == "train.py" else test_script.main
    if script == "train.py" and "-c" in arguments:
        assert main([*arguments, "--print-config"]) == 0
    else:
        assert main(arguments) == 2
        assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("command", [c for c in COMMANDS if " -m " in c])
def test_the_modules_exist(command):
    module = command.split()[2]
    assert (ROOT / (module.replace(".", "/") + ".py")).exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:hw_|configs/|demo/|benchmarks/)[\w./]+\.\w+)`", README))))
def test_named_files_exist(path):
    assert (ROOT / path).exists()
