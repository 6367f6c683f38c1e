"""``python -m tests.faults.mutations``: take away one guard at a time and see its test fail, in a copy of the project.

Prints a table, and exits with 1 if a test passes without its guard, or fails with it.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# ruff: noqa: E402 - what is set here must be set before torch is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.dont_write_bytecode = True

import hypothesis  # noqa: F401 - imported here once, for all tests
import pytest
import torch
import torchaudio  # noqa: F401

from tests.faults.mutations.guards import GUARDS

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[3]

# A test that waits for ever without its guard has failed.
SECONDS = 180


def copy(target: Path) -> None:
    """The files of the project that git knows, as they are now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def passes(tests: list[str], folder: Path) -> bool:
    """Whether these tests pass there: in a forked child, for which torch is imported already, but not the project."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        os.chdir(folder)
        # Nothing of the project itself may be imported from where this program lies.
        sys.path[:] = [str(folder), *(path for path in sys.path if Path(path or ".").resolve() not in (ROOT, folder))]
        for name in [
            name for name in sys.modules if name.partition(".")[0] in ("tests", "hw_base", "hw_asr", "hw_tts")
        ]:
            del sys.modules[name]
        options = ["-n0", "-x", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "--rootdir", str(folder)]
        os._exit(int(pytest.main([*options, *tests])))
    deadline = time.monotonic() + (SECONDS if len(tests) == 1 else 3600)
    status = None
    while status is None and time.monotonic() < deadline:
        done, found = os.waitpid(pid, os.WNOHANG)
        if done:
            status = found
        else:
            time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if status is None:  # it waits for ever
        os.waitpid(pid, 0)
        return False
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 1):
        raise SystemExit(f"pytest ended with {code}: {' '.join(tests)}")
    return code == 0


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutations", description=__doc__)
    parser.add_argument("--only", default="", help="part of a guard's name")
    arguments = parser.parse_args(argv)
    guards = [guard for guard in GUARDS if arguments.only in guard.name]
    if not guards:
        parser.error(f"no guard's name has {arguments.only!r} in it")
    folder = Path(tempfile.mkdtemp(prefix="mutations-"))
    survived = 0
    try:
        copy(folder)
        if not passes(sorted({guard.test for guard in guards}), folder):
            print("the tests fail already with all guards in place", file=sys.stderr)
            return 1
        print("| guard | taken away in | test that fails without it | |\n| --- | --- | --- | --- |")
        for guard in guards:
            path = folder / guard.file
            content = path.read_text(encoding="utf-8")
            assert content.count(guard.old) == 1, guard
            path.write_text(content.replace(guard.old, guard.new), encoding="utf-8")
            found = not passes([guard.test], folder)
            path.write_text(content, encoding="utf-8")
            survived += not found
            test = guard.test.rpartition("::")[2]
            print(f"| {guard.name} | {guard.file} | {test} | {'fails' if found else 'PASSES'} |", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{len(guards) - survived} of {len(guards)} guards are tested")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
