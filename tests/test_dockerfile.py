"""The Dockerfile agrees with the rest of the project; it is not built here."""

import configparser
import re

from tests.conftest import ROOT

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_what_is_copied_exists_and_nothing_else_is_needed_by_the_build():
    copied = [words.split() for words in re.findall(r"^COPY (?!--from)(.*)$", TEXT, re.MULTILINE)]
    sources = [word for words in copied for word in words[:-1] if not word.startswith("--")]
    assert sources == ["requirements.txt", "."]
    assert all((ROOT / source).exists() for source in sources)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert not set(ignored) & {"train.py", "test.py", "configs", "hw_base", "hw_asr", "hw_tts", "requirements.txt"}


def test_its_python_is_one_that_the_project_supports():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    low, high = re.findall(r"3\.(\d+)", settings["options"]["python_requires"])
    (minor,) = re.findall(r"^ARG PYTHON=3\.(\d+)$", TEXT, re.MULTILINE)
    assert int(low) <= int(minor) < int(high)


def test_its_pins_are_those_of_the_project():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.findall(r"kenlm==[\d.]+", TEXT) == re.findall(r"kenlm==[\d.]+", makefile)
    pattern = re.search(r"grep -E '(.*?)' requirements.txt", TEXT)[1]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    chosen = [line.partition("==")[0] for line in lines if re.search(pattern, line)]
    assert chosen == ["torch", "torchaudio"]


def test_its_arguments_are_documented():
    page = (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")
    assert all(f"--build-arg {name}=" in page for name in set(re.findall(r"^ARG (\w+)=", TEXT, re.MULTILINE)))
