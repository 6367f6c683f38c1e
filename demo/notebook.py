"""What the notebooks share: installing what is missing, and running programs as their command lines say."""

import configparser
import importlib
import importlib.metadata
import shlex
import subprocess
import sys
from pathlib import Path

# Of `setup.cfg`; the others are for trackers, courses and pages of their own.
EXTRAS = ("corpus", "text", "decoding", "synthesis", "report")
# Need a compiler or an older Python, and the notebooks do without.
LEFT_OUT = ("kenlm", "flashlight-text")
# A build of the same release is kept, whatever its CUDA: they are large, and a machine's own fits its GPU.
HEAVY = ("torch", "torchaudio")


def requirements(root: Path) -> list[str]:
    """What the notebooks need, as `setup.cfg` in the project's folder bounds it."""
    settings = configparser.ConfigParser()
    settings.read(root / "setup.cfg", encoding="utf-8")
    extras = settings["options.extras_require"]
    texts = [settings["options"]["install_requires"], *(extras[name] for name in EXTRAS)]
    return [line for text in texts for line in text.splitlines() if line and not line.startswith(LEFT_OUT)]


def installed(package: str) -> str | None:
    """The version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def missing(lines: list[str]) -> list[str]:
    """Those requirements that the installed packages do not meet."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    wanted = []
    for line in lines:
        requirement = Requirement(line)
        version = installed(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        if version is not None and requirement.name in HEAVY:
            (pinned,) = requirement.specifier
            if Version(version).release[:2] == Version(pinned.version).release[:2]:
                continue
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            wanted.append(line)
    return wanted


def install(root: Path) -> None:
    """Install what is missing; nothing is touched where everything is there."""
    wanted = missing(requirements(root))
    if wanted:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=True)
    print(f"torch {installed('torch')}; newly installed: {', '.join(wanted) or 'nothing'}")


def run(line: str) -> None:
    """Run ``python train.py ...`` or ``python -m PROGRAM ...`` in this process, which saves importing torch again.

    Args:
        line: as it would stand on a command line.

    Raises:
        RuntimeError: the program ended with another exit code than 0; what it printed says why.
    """
    print(f"$ {line}")
    code = exit_code(line)
    if code:
        raise RuntimeError(f"exit code {code}: {line}")


def exit_code(line: str) -> int:
    """The exit code of a program that is run in this process."""
    _, *words = shlex.split(line)
    if words[0] == "-m":
        name, arguments = words[1], words[2:]
        module = importlib.import_module(name)
        module = module if hasattr(module, "main") else importlib.import_module(f"{name}.__main__")
    else:
        module, arguments = importlib.import_module(words[0].removesuffix(".py")), words[1:]
    try:
        return int(module.main(arguments) or 0)
    except SystemExit as end:  # of argparse
        return int(end.code or 0)
