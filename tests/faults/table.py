"""A row of the table of faults: a function that injects one kind of fault many times and notes what it does harm to."""

import contextlib
import io
import json
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from tests.conftest import ROOT

MAX_SHOWN = 20


@dataclass
class Outcome:
    """What the trials of a row came to.

    Attributes:
        trials: faults that were injected.
        survived: those after which all was as the row promises.
        misses: the others, in words.
        skipped: reason -> trials that cannot be made on this machine.
    """

    trials: int = 0
    survived: int = 0
    misses: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        number: in the table.
        fault: what is injected.
        survived: what it means to survive it.
        inject: makes the trials.
        quick: whether it also runs, with fewer trials, among the tests.
    """

    number: int
    fault: str
    survived: str
    inject: Callable[["Trials"], None]
    quick: bool


ROWS: dict[int, Row] = {}


def row(number: int, fault: str, survived: str, quick: bool = True):
    """Declare a function that makes the trials of a row."""

    def declare(inject):
        assert number not in ROWS
        ROWS[number] = Row(number, fault, survived, inject, quick)
        return inject

    return declare


class Trials:
    """Given to a row, which makes its trials with it.

    Args:
        folder: empty, for anything.
        whole: all trials, or the few of the default tests.
    """

    def __init__(self, folder: Path, whole: bool) -> None:
        self.folder, self.whole = folder, whole
        self.outcome = Outcome()
        self._made = 0

    def size(self, quick: int, whole: int) -> int:
        """How many trials to make."""
        return whole if self.whole else quick

    def new_folder(self, name: str = "folder") -> Path:
        """A folder of its own."""
        self._made += 1
        folder = self.folder / f"{name}{self._made}"
        folder.mkdir()
        return folder

    @contextlib.contextmanager
    def trial(self, name: str) -> Iterator[Path]:
        """Surrounds one fault and the look at what became of it: whatever is raised inside is a miss.

        Args:
            name: of the fault, for the list of misses.

        Yields:
            A new folder, removed afterwards.
        """
        folder = self.new_folder("trial")
        try:
            yield folder
        except pytest.skip.Exception as reason:
            self.skip(str(reason))
        except (Exception, pytest.fail.Exception) as error:
            self.miss(name, error)
        else:
            self.outcome.trials += 1
            self.outcome.survived += 1
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def miss(self, name: str, error: BaseException) -> None:
        """Count a trial that did not survive."""
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(ROOT))]
        place = f" ({Path(frames[-1].filename).relative_to(ROOT)}, line {frames[-1].lineno})" if frames else ""
        text = " ".join(str(error).split())[:300]
        self.outcome.trials += 1
        self.outcome.misses.append(f"{name}: {type(error).__name__}: {text}{place}")

    def skip(self, reason: str, count: int = 1) -> None:
        """Count trials that cannot be made here."""
        self.outcome.skipped[reason] = self.outcome.skipped.get(reason, 0) + count

    def tests(self, *names: str, only: str = "") -> None:
        """Existing tests that inject this fault, each case of them a trial; among the quick ones they run anyway.

        Args:
            names: files, or ``file::test``.
            only: words of pytest's ``-k``.
        """
        if not self.whole:
            return
        arguments = ["-n0", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "--strict-markers"]
        arguments += ["-m", "not gpu and not network", "--basetemp", str(self.new_folder("pytest")), "--tb=line"]
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = pytest.main([*arguments, *(["-k", only] if only else []), *names], plugins=[_Counter(self)])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            self.miss(" ".join(names), RuntimeError(f"pytest ended with {code}: {said.getvalue()[-300:]}"))


class _Counter:
    """Counts the cases of tests; a plugin of pytest."""

    def __init__(self, trials: Trials) -> None:
        self.trials = trials

    def pytest_runtest_logreport(self, report) -> None:
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.trials.skip(reason.removeprefix("Skipped: "))
        elif report.failed:
            self.trials.miss(report.nodeid, RuntimeError(f"{report.when}: {report.longreprtext[-300:]}"))
        elif report.when == "call":
            self.trials.outcome.trials += 1
            self.trials.outcome.survived += 1


def perform(one: Row, folder: Path, whole: bool) -> Outcome:
    """Make the trials of a row."""
    trials = Trials(folder, whole)
    started = time.monotonic()
    try:
        one.inject(trials)
    except pytest.skip.Exception as reason:
        trials.skip(str(reason))
    except (Exception, pytest.fail.Exception) as error:
        trials.miss("the row itself", error)
    trials.outcome.seconds = round(time.monotonic() - started, 1)
    return trials.outcome


HEAD = '| | fault | trials | survived | what "survived" means |\n| --- | --- | --- | --- | --- |'


def in_markdown(outcomes: dict[int, Outcome]) -> str:
    """The table, with the sum of all trials."""
    lines = [HEAD]
    for number, one in sorted(outcomes.items()):
        declared = ROWS[number]
        skipped = sum(one.skipped.values())
        count = f"{one.trials:,}" + (f" ({skipped} skipped)" if skipped else "")
        lines.append(f"| {number} | {declared.fault} | {count} | {one.survived:,} | {declared.survived} |")
    trials, survived = (sum(getattr(one, name) for one in outcomes.values()) for name in ("trials", "survived"))
    lines.append(f"| | **all {len(outcomes)} rows** | **{trials:,}** | **{survived:,}** | |")
    return "\n".join(lines) + "\n"


def in_words(outcomes: dict[int, Outcome]) -> str:
    """What did not survive and what was skipped, a line each."""
    lines = []
    for number, one in sorted(outcomes.items()):
        lines += [f"row {number}, miss: {text}" for text in one.misses[:MAX_SHOWN]]
        if len(one.misses) > MAX_SHOWN:
            lines.append(f"row {number}: and {len(one.misses) - MAX_SHOWN} more misses")
        lines += [f"row {number}, skipped {count}: {reason}" for reason, count in one.skipped.items()]
    return "".join(line + "\n" for line in lines)


def save(path: Path, outcomes: dict[int, Outcome], **about) -> None:
    """Write what is known so far, so that an interrupted run resumes."""
    content = {**about, "rows": {number: asdict(one) for number, one in sorted(outcomes.items())}}
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(content, indent=1), encoding="utf-8")
    scratch.replace(path)


def restore(path: Path, **about) -> dict[int, Outcome]:
    """What an interrupted run of the same kind has done already; nothing of a complete one, and nothing that missed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if any(content.get(key) != value for key, value in about.items()):
        return {}
    rows = {int(number): Outcome(**one) for number, one in content["rows"].items()}
    return {number: one for number, one in rows.items() if number in ROWS and not one.misses}
