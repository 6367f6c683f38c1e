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
from pathlib import Path

from tests.conftest import ROOT
from tests.faults.mutations.guards import GUARDS

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
    """Whether these tests pass there."""
    command = [sys.executable, "-m", "pytest", "-n0", "-x", "-q", "-o", "addopts=", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **quiet) as process:
        try:
            code = process.wait(SECONDS if len(tests) == 1 else None)
        except subprocess.TimeoutExpired:
            code = 1
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if code not in (0, 1):
        raise SystemExit(f"pytest ended with {code}: {' '.join(tests)}")
    return code == 0


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutations", description=__doc__)
    parser.add_argument("--only", default="", help="part of a guard's name")
    arguments = parser.parse_args(argv)
    guards = [guard for guard in GUARDS if arguments.only in guard.name]
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
