"""Running an untrusted command: bubblewrap around it, limits on it, and what it left.

A namespace is not a virtual machine: the command talks to the same kernel as everybody else.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from hw_base.errors import ConfigError
from hw_base.grading.control_group import control_group
from hw_base.grading.limits import Limits
from hw_base.grading.watch import Outcome, watch

WORK, DATA, SUBMISSION, TEMPLATE = (f"/sandbox/{name}" for name in ("work", "data", "submission", "template"))
_OLDEST = (0, 8)
_INSTALL = (
    "install it (Debian, Ubuntu: apt-get install bubblewrap), or give --no-sandbox to run submissions unprotected"
)
# What programs of a usual Linux look for; nothing of it is anybody's own.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/fonts")
# Users that no Linux distribution gives to anybody, and that a container's map of ids still has.
_FIRST_USER, _N_USERS = 61_000, 4_000
_SHARED_MEMORY = 256 << 20


@dataclass(frozen=True)
class Job:
    """One command and what it may see.

    Attributes:
        command: ``{data}``, ``{submission}``, ``{work}`` and ``{template}`` are replaced by the folders' paths inside.
        data: folder of what is to be predicted.
        submission: folder of what was handed in.
        output: files and folders, relative to the work folder, that are handed out.
        own_copy: the command runs in a copy of the submission that it may change, instead of in the work folder.
        interpreter: the Python whose packages the command finds.
        environment: further variables.
    """

    command: Sequence[str]
    data: Path
    submission: Path
    output: Sequence[str]
    own_copy: bool = False
    interpreter: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)


@lru_cache(maxsize=1)
def problem() -> str | None:
    """Why nothing can be isolated here, or None where it can."""
    program = shutil.which("bwrap")
    if program is None:
        return f"bubblewrap (bwrap) is needed to isolate submissions and was not found: {_INSTALL}"
    version = _version(program)
    if version < _OLDEST:
        return f"bubblewrap {'.'.join(map(str, version))} is too old, 0.8 or newer is needed: {_INSTALL}"
    probe = [program, *_namespaces(), "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
    done = subprocess.run(probe, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"bubblewrap cannot make namespaces here ({reason}): allow user namespaces, or give --no-sandbox"
    return None


def statement(isolated: bool, has_group: bool) -> dict[str, Any]:
    """What was in force, for the report."""
    group = ", a control group" if has_group else ""
    if not isolated:
        return {
            "isolated": False,
            "statement": "NOT ISOLATED: what was submitted ran with the rights of the grading user",
            "tool": None,
            "limits_by": f"RLIMIT_DATA, RLIMIT_FSIZE, a watching process{group}; a process may leave its session",
        }
    nested = "user namespaces inside are possible" if os.geteuid() == 0 else "no user namespaces inside"
    return {
        "isolated": True,
        "statement": "own mount, process, network, IPC and host-name namespaces; read-only root; no network; "
        f"private /tmp; nothing of the grader's folders; {nested}; the same kernel, so not a virtual machine",
        "tool": f"bubblewrap {'.'.join(map(str, _version(shutil.which('bwrap') or 'bwrap')))}",
        "limits_by": "RLIMIT_DATA, RLIMIT_NPROC, RLIMIT_FSIZE, file systems of limited size, a watching process"
        + group,
    }


def run(job: Job, limits: Limits, isolated: bool, target: Path) -> Outcome:
    """Run a command to its end, or to the first limit that it hits.

    Args:
        job: what to run.
        limits: see `Limits`.
        isolated: inside bubblewrap; otherwise as an ordinary process.
        target: new file that gets a tar of the output.

    Raises:
        ConfigError: bubblewrap is not usable, or hides nothing because the data lie in a folder that stays visible.
    """
    with tempfile.TemporaryDirectory(prefix="hw_grade_work_") as work, control_group(limits) as group:
        reader, writer = os.pipe()
        try:
            make = _isolated if isolated else _unprotected
            command, environment = make(job, limits, writer, work)
            process = _popen(command if group is None else group.command(command), writer, environment)
        finally:
            os.close(writer)
        try:
            outcome = watch(process, reader, limits, target)
        finally:
            os.close(reader)
        if group is not None:
            outcome.control_group = True
            outcome.peak_memory = max(outcome.peak_memory, group.peak_memory())
            outcome.stopped = outcome.stopped or (group.hit() if outcome.exit_code else None)
        return outcome


def _isolated(job: Job, limits: Limits, channel: int, scratch: str) -> tuple[list[str], dict[str, str]]:
    reason = problem()
    if reason is not None:
        raise ConfigError(reason)
    user = _FIRST_USER + os.getpid() % _N_USERS if os.geteuid() == 0 else None
    places = {"work": WORK, "data": DATA, "submission": SUBMISSION, "template": TEMPLATE}
    visible = _visible_folders(job.interpreter)
    mounts = [(str(path), str(path)) for path in visible]
    mounts += [(str(_packages() / name), f"{TEMPLATE}/{name}") for name in _package_names()]
    mounts += [(str(job.data), DATA), (str(job.submission), SUBMISSION)]
    command = ["bwrap", *_namespaces(), "--clearenv"]
    for name, value in _environment(job, places).items():
        command += ["--setenv", name, value]
    command += _root([*mounts, *_accounts(Path(scratch), os.geteuid() if user is None else user)], limits)
    stub = f"{TEMPLATE}/hw_base/grading/pid1.py"
    plan = _plan(job, limits, channel, places, user, confined=True)
    command += [job.interpreter, "-I", "-S", stub, json.dumps(plan)]
    return command, {"PATH": os.environ.get("PATH", os.defpath)}


def _unprotected(job: Job, limits: Limits, channel: int, work: str) -> tuple[list[str], dict[str, str]]:
    places = {"work": work, "data": str(job.data), "submission": str(job.submission), "template": str(_packages())}
    plan = _plan(job, limits, channel, places, None, confined=False)
    stub = str(Path(__file__).with_name("pid1.py"))
    command = [job.interpreter, "-I", "-S", stub, json.dumps(plan)]
    return command, _environment(job, places)


def _popen(command: list[str], channel: int, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        pass_fds=[channel],
        start_new_session=True,
    )


def _plan(
    job: Job, limits: Limits, channel: int, places: Mapping[str, str], user: int | None, confined: bool
) -> dict[str, Any]:
    copy = os.path.join(places["work"], "submission")
    directory = copy if job.own_copy else places["work"]
    output = [os.path.join(directory, name) for name in job.output]
    names = {**places, "submission": copy} if job.own_copy else places
    return {
        "command": [_filled(part, names) for part in job.command],
        "directory": directory,
        "copies": [[places["submission"], copy]] if job.own_copy else [],
        # A file that was handed in under the name of the output was not made by the command.
        "remove": output if job.own_copy else [],
        "output": output,
        "limits": asdict(limits),
        "channel": channel,
        "user": user,
        "confined": confined,
    }


def _filled(part: str, places: Mapping[str, str]) -> str:
    return re.sub(r"\{(work|data|submission|template)\}", lambda match: places[match[1]], part)


def _namespaces() -> list[str]:
    """As root the mounts are made with root's rights, and the first process then becomes an unprivileged user."""
    options = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    options += ["--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "sandbox", "--cap-drop", "ALL"]
    if os.geteuid() != 0:
        return ["--unshare-user", "--disable-userns", *options]
    for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_KILL"):
        options += ["--cap-add", capability]
    return options


def _accounts(folder: Path, user: int) -> list[tuple[str, str]]:
    """Programs ask for the name of their user; nobody else has one inside."""
    (folder / "passwd").write_text(f"grading:x:{user}:{user}::{WORK}:/bin/sh\n", encoding="ascii")
    (folder / "group").write_text(f"grading:x:{user}:\n", encoding="ascii")
    return [(str(folder / name), f"/etc/{name}") for name in ("passwd", "group")]


def _root(mounts: Sequence[tuple[str, str]], limits: Limits) -> list[str]:
    """The file system: a system, the mounts, a work folder of limited size; all else read-only."""
    options: list[str] = []
    for path in _SYSTEM:
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            options += ["--ro-bind", path, path]
    options += ["--perms", "0755", "--dir", "/etc"]
    for path in _SYSTEM_FILES:
        options += ["--ro-bind-try", path, path]
    # Before the mounts: an interpreter or this project may lie in a folder below /tmp.
    options += ["--perms", "1777", "--size", str(limits.disk), "--tmpfs", "/tmp"]
    made = {"/etc", "/tmp"}
    for _, place in mounts:
        for folder in [str(parent) for parent in reversed(Path(place).parents)][1:]:
            inside_another = any(Path(folder).is_relative_to(other) for other in (*_SYSTEM, *(t for _, t in mounts)))
            if folder not in made and not inside_another:
                made.add(folder)
                options += ["--perms", "0755", "--dir", folder]
    for source, place in mounts:
        options += ["--ro-bind", source, place]
    shared = min(limits.disk, _SHARED_MEMORY)
    options += ["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--size", str(shared), "--tmpfs", "/dev/shm"]
    return [*options, "--symlink", "/tmp", WORK, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORK]


def _environment(job: Job, places: Mapping[str, str]) -> dict[str, str]:
    work = places["work"]
    return {
        "PATH": os.pathsep.join([str(Path(job.interpreter).parent), "/usr/local/bin", "/usr/bin", "/bin"]),
        "HOME": work,
        "USER": "grading",
        "TMPDIR": work,
        "LANG": "C.UTF-8",
        "PYTHONPATH": places["template"],
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": str(min(8, len(os.sched_getaffinity(0)))),
        "NUMBA_CACHE_DIR": os.path.join(work, ".numba"),
        "XDG_CACHE_HOME": os.path.join(work, ".cache"),
        "MPLCONFIGDIR": os.path.join(work, ".matplotlib"),
        "CUDA_VISIBLE_DEVICES": "",
        **job.environment,
    }


def _packages() -> Path:
    return Path(__file__).resolve().parents[2]


def _package_names() -> list[str]:
    from hw_base import task_packages

    return ["hw_base", *sorted({module.split(".")[0] for module in task_packages.GRADING.values()})]


@lru_cache(maxsize=4)
def _visible_folders(interpreter: str) -> list[Path]:
    """Where an interpreter and its packages lie, without what the system's folders hold already."""
    code = "import os, sys; print(sys.prefix, sys.base_prefix, os.path.realpath(sys.executable + '/..'), sep='\\n')"
    try:
        done = subprocess.run([interpreter, "-I", "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(f"interpreter {interpreter}: cannot be run: {error}") from None
    folders = {Path(line) for line in done.stdout.splitlines()}
    folders |= {Path(line).resolve() for line in done.stdout.splitlines()}
    outside = [path for path in sorted(folders) if not any(path.is_relative_to(system) for system in _SYSTEM)]
    return [path for path in outside if not any(path != other and path.is_relative_to(other) for other in outside)]


def refuse_visible(paths: Sequence[Path], interpreter: str = sys.executable) -> None:
    """Refuse secrets that lie where the sandbox looks.

    Raises:
        ConfigError: one of `paths` is in a folder that stays visible inside.
    """
    shown = [*(Path(path) for path in (*_SYSTEM, *_SYSTEM_FILES)), *_visible_folders(interpreter)]
    shown += [_packages() / name for name in _package_names()]
    for path in paths:
        for folder in shown:
            if path.resolve().is_relative_to(folder.resolve()):
                raise ConfigError(f"{path}: submissions can read {folder}; keep hidden data and reports elsewhere")


@lru_cache(maxsize=2)
def _version(program: str) -> tuple[int, ...]:
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    return tuple(int(part) for part in re.findall(r"\d+", done.stdout)[:3])
