"""The README's promises that can be checked without waiting: its commands parse, its files exist."""

import re
import shlex
import shutil

import pytest
import torch

import test as test_script
import train as train_script
from hw_base.audio import io as audio
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
    place = ROOT / command.split()[2].replace(".", "/")
    assert place.with_suffix(".py").exists() or (place / "__main__.py").exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:hw_|configs/|demo/|benchmarks/)[\w./]+\.\w+)`", README))))
def test_named_files_exist(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("package", ["hw_asr", "hw_tts"])
def test_the_lines_of_python_run_as_printed(package, tmp_path, monkeypatch, capsys):
    """In a folder that is not this project's, with checkpoints of the first edition."""
    (code,) = [c for c in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if c.startswith(f"import {package}\n")]
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
