"""The sandbox itself: what is visible in it, as root and as an ordinary user, and where it refuses."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hw_base.errors import ConfigError
from hw_base.grade import main
from hw_base.grading import sandbox
from hw_base.grading.limits import Limits
from hw_base.grading.sandbox import Job
from tests.conftest import ROOT
from tests.hw_base.grading.cases import write_hidden

needs_bwrap = pytest.mark.skipif(sandbox.problem() is not None, reason=str(sandbox.problem()))
LIMITS = Limits.parse("time=20,memory=1G,disk=20M,processes=20")


@pytest.fixture
def job(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("given")
    (tmp_path / "submission").mkdir()

    def make(code, own_copy=True, **others):
        (tmp_path / "submission" / "main.py").write_text(code)
        command = [sys.executable, "{submission}/main.py", "{data}", "{work}"]
        return Job(command, tmp_path / "data", tmp_path / "submission", ["out"], own_copy, **others)

    return make


@needs_bwrap
def test_nothing_of_the_graders_is_inside(job, tmp_path):
    code = """
import os, sys
print(sorted(os.listdir("/")), sorted(os.listdir("/etc")), sorted(os.listdir("/tmp")))
print(sorted(os.environ))
print(open(sys.argv[1] + "/x").read(), os.getuid() != 0, len([p for p in os.listdir("/proc") if p.isdigit()]))
print([line.split()[1] for line in open("/proc/net/dev").readlines()[2:] if not line.strip().startswith("lo")])
"""
    outcome = sandbox.run(job(code), LIMITS, True, tmp_path / "tar")
    assert outcome.exit_code == 0, outcome.stderr
    folders, environment, given, network = outcome.stdout.splitlines()
    for absent in {"home", "var", "srv", "mnt", "opt"} - {Path(p).parts[1] for p in (sys.prefix, sys.base_prefix)}:
        assert f"'{absent}'" not in folders
    assert "shadow" not in folders
    assert "SSH" not in environment
    assert "'HOME'" in environment
    assert given == "given True 2"
    assert network == "[]"


@needs_bwrap
def test_the_output_comes_out_and_links_do_not(job, tmp_path):
    code = """
import os
os.makedirs("out/deeper"); open("out/deeper/a.txt", "w").write("a"); open("out/b.txt", "w").write("b")
os.symlink("/etc/passwd", "out/link"); os.symlink("/etc", "out/folder"); os.mkfifo("out/pipe")
"""
    outcome = sandbox.run(job(code), LIMITS, True, tmp_path / "tar")
    assert outcome.exit_code == 0
    shutil.unpack_archive(tmp_path / "tar", tmp_path / "found", "tar")
    found = sorted(str(p.relative_to(tmp_path / "found")) for p in (tmp_path / "found").rglob("*") if p.is_file())
    assert found == ["out/b.txt", "out/deeper/a.txt"]


@needs_bwrap
def test_the_submission_itself_stays_as_it_is(job, tmp_path):
    outcome = sandbox.run(job("open('main.py', 'w').write('other')"), LIMITS, True, tmp_path / "tar")
    assert outcome.exit_code == 0
    assert (tmp_path / "submission" / "main.py").read_text() != "other"


@needs_bwrap
def test_it_dies_with_the_grader(job, tmp_path):
    mark = f"hw_grading_orphan_{os.getpid()}"
    child = os.fork()
    if child == 0:
        code = (
            f"import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(99)', '{mark}'])"
        )
        sandbox.run(job(code), LIMITS, True, tmp_path / "tar")
        os._exit(0)

    def alive():
        paths = [p for p in Path("/proc").glob("[0-9]*/cmdline")]
        return any(mark.encode() in _read(path).split(b"\0") for path in paths)

    wait_for(alive)
    os.kill(child, 9)
    os.waitpid(child, 0)
    wait_for(lambda: not alive())


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def wait_for(condition):
    import time

    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("waited in vain")


@pytest.fixture
def open_folder():
    """A folder that every user can reach; those above pytest's own are root's alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become somebody else")
@needs_bwrap
def test_an_ordinary_user_can_isolate_too(open_folder):
    """With the system's Python: the one of the tests may lie where only root can read."""
    python = "/usr/bin/python3"
    if not Path(python).exists():
        pytest.skip("the system has no Python of its own")
    tmp_path = open_folder
    for name in ("data", "submission", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
    shutil.copytree(ROOT / "hw_base" / "grading", tmp_path / "packages" / "hw_base" / "grading")
    for name in ("__init__.py", "errors.py", "task_packages.py"):
        shutil.copy(ROOT / "hw_base" / name, tmp_path / "packages" / "hw_base" / name)
    for name in ("hw_asr", "hw_tts"):
        (tmp_path / "packages" / name).mkdir()
    code = "import os; print(os.getuid(), os.path.exists('/root'), [p for p in ('/', '/dev') if os.access(p, os.W_OK)])"
    (tmp_path / "submission" / "main.py").write_text(code)
    program = f"""
from pathlib import Path
from hw_base.grading import sandbox
from hw_base.grading.limits import Limits
here = Path({str(tmp_path)!r})
job = sandbox.Job([{python!r}, "main.py"], here / "data", here / "submission", ["out"], True, {python!r})
outcome = sandbox.run(job, Limits.parse("time=20,memory=1G,disk=20M,processes=20"), True, here / "out" / "tar")
print(outcome.exit_code, outcome.stdout.strip(), outcome.stderr)
nested = sandbox.Job(["/usr/bin/unshare", "-U", "true"], here / "data", here / "submission", ["out"], True, {python!r})
print(sandbox.run(nested, Limits.parse("time=20,memory=1G,disk=20M"), True, here / "out" / "tar").exit_code)
"""
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-c", program]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path / "packages")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/")
    if "requires" in done.stderr or "SyntaxError" in done.stderr:
        pytest.skip(f"the system's Python is too old: {done.stderr.splitlines()[-1]}")
    assert done.stdout.splitlines()[:1] == ["0 65534 False [] "], done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] != "0"


def test_without_bubblewrap_it_says_how_to_install_it(tmp_path, monkeypatch, capsys):
    hidden = write_hidden(tmp_path / "hidden")
    (tmp_path / "in").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    sandbox.problem.cache_clear()
    command = ["--submission", str(tmp_path / "in"), "--task", "asr", "--data", str(hidden)]
    assert main([*command, "-o", str(tmp_path / "report.json")]) == 2
    sandbox.problem.cache_clear()
    message = capsys.readouterr().err
    assert "apt-get install bubblewrap" in message
    assert message.count("\n") == 1


def test_hidden_data_that_submissions_could_read_are_refused():
    with pytest.raises(ConfigError, match="submissions can read /usr"):
        sandbox.refuse_visible([Path("/usr/share/references")])
    with pytest.raises(ConfigError, match="keep hidden data"):
        sandbox.refuse_visible([ROOT / "hw_base" / "references"])


def test_without_a_sandbox_the_limits_still_hold(job, tmp_path):
    outcome = sandbox.run(job("while True: pass"), Limits.parse("time=0.5"), False, tmp_path / "tar")
    assert outcome.stopped == "time"
    outcome = sandbox.run(job("x = bytearray(8 << 30)"), LIMITS, False, tmp_path / "tar")
    assert outcome.stopped == "memory"
    outcome = sandbox.run(
        job("import os; os.mkdir('out'); open('out/a', 'w').write('a')"), LIMITS, False, tmp_path / "tar"
    )
    assert (outcome.exit_code, outcome.stopped) == (0, None)
    shutil.unpack_archive(tmp_path / "tar", tmp_path / "found", "tar")
    assert (tmp_path / "found" / "out" / "a").read_text() == "a"
