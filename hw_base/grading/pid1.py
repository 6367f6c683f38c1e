"""The first process of a sandbox: starts the command, ends whatever the command left, and hands out its files.

It is run by path, as ``python -I -S pid1.py '<JSON>'``, so it imports the standard library alone.
"""

import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import stat
import sys
import tarfile
from typing import Any

# Bytes of what comes before the tar.
HEAD = 512
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38


def main() -> None:
    """Entry point; the argument is a JSON object, see `hw_base.grading.sandbox`."""
    plan: dict[str, Any] = json.loads(sys.argv[1])
    # Whoever has the same user id could otherwise read this process's memory and its end of the pipe.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    os.set_inheritable(plan["channel"], False)
    child = os.fork()
    if child == 0:
        _run(plan)
    status, largest = _reap_until(child)
    _end_the_rest(child)
    _switch_user(plan["user"])
    with os.fdopen(plan["channel"], "wb") as channel:
        head = {"status": os.waitstatus_to_exitcode(status), "largest": largest, "full": _is_full(plan)}
        channel.write(json.dumps(head).encode().ljust(HEAD))
        _send(channel, plan["directory"], plan["output"])


def _run(plan: dict[str, Any]) -> None:
    """In the child: limits, another user, a copy of what is read-only, the command."""
    try:
        os.setpgid(0, 0)
        _limit(plan["limits"], plan["confined"])
        _switch_user(plan["user"])
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        for source, target in plan["copies"]:
            shutil.copytree(source, target)
        for path in plan["remove"]:
            with contextlib.suppress(OSError):
                os.unlink(path)
        os.chdir(plan["directory"])
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvpe(plan["command"][0], plan["command"], os.environ)
    except (OSError, shutil.Error) as error:
        os.write(2, f"cannot be started: {plan['command'][0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _limit(limits: dict[str, Any], confined: bool) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits["disk"], limits["disk"]))
    # RLIMIT_AS would count what is only mapped, which breaks torch.
    resource.setrlimit(resource.RLIMIT_DATA, (limits["memory"], limits["memory"]))
    if confined:  # elsewhere the user's other processes would count too
        resource.setrlimit(resource.RLIMIT_NPROC, (limits["processes"], limits["processes"]))


def _switch_user(user: int | None) -> None:
    """From root to a user that owns nothing; its privileges are lost with that."""
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def _reap_until(child: int) -> tuple[int, int]:
    """Wait for everything that ends until the command itself does: its status and the largest resident size."""
    largest = 0
    while True:
        pid, status, usage = os.wait4(-1, 0)
        largest = max(largest, usage.ru_maxrss * 1024)
        if pid == child:
            return status, largest


def _end_the_rest(child: int) -> None:
    """As process 1 of a namespace this ends everybody else, whatever sessions and parents they made themselves."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(-1, signal.SIGKILL) if os.getpid() == 1 else os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while os.getpid() == 1:
            os.wait()


def _is_full(plan: dict[str, Any]) -> bool:
    space = os.statvfs(plan["directory"])
    return bool(plan["confined"]) and (space.f_bavail * 100 < space.f_blocks or not space.f_favail)


def _send(channel: Any, directory: str, output: list[str]) -> None:
    """The plain files and folders among `output` as a tar; links and devices are left out."""
    try:
        with tarfile.open(fileobj=channel, mode="w|") as archive:
            for path in output:
                for folder, folders, files in os.walk(path) if os.path.isdir(path) else [("", [], [path])]:
                    folders.sort()
                    for name in sorted(files):
                        full = os.path.join(folder, name)
                        _send_file(archive, full, os.path.relpath(full, directory))
    except OSError as error:
        os.write(2, f"the output cannot be read: {error}\n".encode())


def _send_file(archive: tarfile.TarFile, path: str, name: str) -> None:
    with contextlib.suppress(OSError, UnicodeEncodeError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                member = tarfile.TarInfo(name)
                member.size = status.st_size
                archive.addfile(member, file)


if __name__ == "__main__":
    main()
