"""What README, CONTRIBUTING and docs/ promise: commands parse or run, files exist, code runs as printed."""

import ast
import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import torch

import test as test_script
import train as train_script
from hw_base.audio import io as audio
from tests.conftest import ROOT

PATHS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PATHS}
README, CONTRIBUTING = PAGES["README.md"], PAGES["CONTRIBUTING.md"]
# Of a line of its own, or within a sentence with at least one argument.
LINES = r"^    (?:torchrun \S+ (?=train\.py)|python )(.*?)(?: +#.*)?$"
COMMANDS = sorted(
    {command.strip() for page in PAGES.values() for command in re.findall(LINES, page, re.MULTILINE)}
    | {command for page in PAGES.values() for command in re.findall(r"`python (-m [\w.]+ [^`\n]+)`", page)}
)
SCRIPTS = [command for command in COMMANDS if command.split()[0] in ("train.py", "test.py")]
MODULES = [command for command in COMMANDS if command.startswith("-m ")]
RUN = ("hw_base.list", "hw_base.check", "hw_base.new")  # take seconds and need no file
INNER_PATH = r"`((?:hw_\w+|configs|demo|benchmarks|docs|tests)/[\w./]*)`"


def test_there_are_commands():
    assert len(SCRIPTS) > 20
    assert len(MODULES) > 20
    assert len(SCRIPTS) + len(MODULES) == len(COMMANDS)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder without any file that a command names, with the package that CONTRIBUTING.md shows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "my_homework"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text("class MyModel: ...\n")
    return tmp_path


@pytest.mark.parametrize("command", [c for c in SCRIPTS if "my_homework" not in c and "://" not in c])
def test_options_of_the_scripts_exist(command, elsewhere, capsys):
    """Parsing comes first: what is named may be missing (exit code 2 with one line), an option may not."""
    script, *arguments = shlex.split(command)
    arguments = [str(ROOT / a) if a.startswith("configs/") else a for a in arguments]
    main = train_script.main if script == "train.py" else test_script.main
    if script == "train.py" and any(a.startswith(str(ROOT)) for a in arguments):
        assert main([*arguments, "--print-config"]) == 0
    else:
        assert main(arguments) == 2
        assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("command", MODULES)
def test_options_of_the_modules_exist(command, elsewhere, capsys):
    """Those that take seconds are run; for others a file is missing, which is one line after the options are read."""
    _, module, *arguments = shlex.split(command)
    if not (ROOT / module.replace(".", "/")).is_dir():
        main = importlib.import_module(module).main
    else:
        main = importlib.import_module(f"{module}.__main__").main
    try:
        code = main(arguments)
    except SystemExit:
        pytest.fail(capsys.readouterr().err)
    error = capsys.readouterr().err
    if "my_homework" in command or "--import my_voice" in command:  # run below, and by tests of hw_base.new
        assert code in (0, 1, 2)  # not checked, failed, not there
    elif module in RUN:
        assert code == 0
    else:
        assert code == 2
        assert "Traceback" not in error
        assert len(error.strip().splitlines()) <= 3


@pytest.mark.parametrize("page", PAGES)
def test_named_files_and_links_exist(page):
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)
    named = [name for name in re.findall(INNER_PATH, text) if "/NAME." not in name]
    missing = [name for name in named if not (ROOT / name).exists()]
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    missing += [link for link in links if not ((ROOT / page).parent / link).exists()]
    assert not missing


def test_targets_of_make_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {
        t for page in PAGES.values() for t in re.findall(r"^    make ([\w-]+)|`make ([\w-]+)", page, re.MULTILINE)
    }
    names = {name for pair in targets for name in pair if name}
    assert {"demo", "demo-tts", "test"} <= names
    assert all(re.search(rf"^{name}:", makefile, re.MULTILINE) for name in names)


def test_every_recipe_is_in_the_readme():
    named = re.findall(r"`(configs/[\w./*]+)`", README)
    for path in sorted((ROOT / "configs").rglob("*.*")):
        relative = str(path.relative_to(ROOT))
        if relative.startswith("configs/grading/"):  # no recipes
            continue
        assert any(relative == name or relative.startswith(name.split("*")[0].rstrip(".")) for name in named), relative


def code_of(page, start):
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if c.startswith(start)]
    return code


@pytest.mark.parametrize("package", ["hw_asr", "hw_tts"])
def test_the_lines_of_python_run_as_printed(package, tmp_path, monkeypatch, capsys):
    """In a folder that is not this project's, with checkpoints of the first edition."""
    code = code_of(README, f"import {package}\n")
    runs = ROOT / "tests" / "data" / "first_edition"
    shutil.copy(runs / "ds2" / "checkpoint-00000008.pth", tmp_path / "asr.pth")
    shutil.copy(runs / "fastspeech2" / "checkpoint-00000004.pth", tmp_path / "tts.pth")
    audio.save(tmp_path / "speech.wav", 0.1 * torch.randn(16000).clamp(-3, 3), 16000)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    if package == "hw_tts":
        assert names["waveform"].dim() == 1
        assert len(names["waveform"]) > 0
        assert names["rate"] == 22050
    else:
        assert capsys.readouterr().out.endswith("\n")
        transcript = names["recognizer"].transcribe("speech.wav", details=True)
        assert " ".join(word.text for word in transcript.words) == " ".join(transcript.text.split())


HOMEWORK = """
import sys
import hw_base.check, train, test
from hw_base import checkpoint

imports = ["--import", "my_homework.models", "--import", "my_homework.trainers", "--import", "my_homework.parts"]
short = ["--set", "model=FrameByFrame", "trainer.type=CountingTrainer", "trainer.max_steps=4", "trainer.log_every=2"]
short += ["optimizers.model.scheduler={type: StepLR, args: {step_size: 1, gamma: 0.5}}"]
short += ["metrics.ser=SER", "trainer.monitor=min val/ser", "data.*.collate=LongestFirst"]
assert hw_base.check.main(["models", "FrameByFrame", *imports]) == 0
assert train.main(["-c", sys.argv[1], *imports, *short, "--run-dir", "run", "-d", "cpu"]) == 0
assert test.main(["-r", "run/model_best.pth", *imports, "-d", "cpu", "-o", "output.json"]) == 0
assert checkpoint.load("run/checkpoint-00000004.pth")["frames"] > 0
"""

PARTS = '''
from hw_asr.data.collate import ASRCollate
from hw_asr.metrics import NormalizedEditRate
from hw_base.registry import COLLATES, METRICS


@METRICS.register()
class SER(NormalizedEditRate):
    """Sentence error rate: the share of utterances with any mistake."""

    def units(self, text):
        return [self._normalize(text)]


@COLLATES.register()
class LongestFirst(ASRCollate):
    """The longest utterance comes first."""

    def __call__(self, items):
        return super().__call__(sorted(items, key=lambda item: -len(item["waveform"])))
'''


def test_a_model_and_a_trainer_of_ones_own_run_as_contributing_shows_them(tmp_path):
    """A model, a metric and a collate are one class each, one more logged value one line, more in the checkpoint one
    method, a schedule one key."""
    package = tmp_path / "my_homework"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(code_of(CONTRIBUTING, "from torch import Tensor"))
    (package / "trainers.py").write_text(code_of(CONTRIBUTING, "from hw_asr.trainer import CTCTrainer\n"))
    (package / "parts.py").write_text(PARTS)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}){HOMEWORK}"
    command = [sys.executable, "-c", code, str(ROOT / "configs" / "tiny" / "ds2.json")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = {re.sub(r"\d{8}", "N", name) for name in re.findall(r"^    [├└]── ([\w.-]+)", README, re.MULTILINE)}
    left = {re.sub(r"\d{8}", "N", path.name) for path in (tmp_path / "run").iterdir() if path.name != ".lock"}
    assert shown - {"diagnosis.jsonl", "git_commit.txt"} <= left <= shown
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all("frames" in row for row in rows if row["split"] == "train" and "ctc" in row)
    assert any("frames" in row for row in rows if row["split"] == "val")
    assert [row["lr"] for row in rows if "lr" in row] == [0.001 / 4, 0.001 / 16]
    assert [row["ser"] for row in rows if "ser" in row] == [1.0]


@pytest.mark.parametrize("package", ["hw_base", "hw_asr", "hw_tts"])
def test_contributing_names_every_room_by_its_own_line(package):
    for room in sorted(path.parent for path in (ROOT / package).glob("*/__init__.py")):
        purpose = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
        assert f"| `{package}/{room.name}/` | {purpose.splitlines()[0]} |" in CONTRIBUTING
