"""What hostile students hand in; each goes behind `HONEST`."""

from tests.hw_base.grading.cases import SECRET

# Stands in the command lines of processes that must not outlive the sandbox.
MARK = "hw_grading_attack_process"

SEARCH = f"""
found = []
def look(text):
    if "{SECRET[:3]}" + "{SECRET[3:]}" in text: found.append(text)
def read(path):
    with contextlib.suppress(OSError): look(open(path, errors="replace").read(100000))
"""

BY_NAME = (
    SEARCH
    + """
for place, folders, files in os.walk("/"):
    if place.startswith(("/proc", "/usr", "/sys")): folders[:] = []; continue
    folders[:] = [name for name in folders if name not in ("lib", "share", "include")]
    for name in files:
        if name.endswith((".txt", ".json", ".csv")): read(os.path.join(place, name))
answer(lambda n: found[0] if found else "nothing " + n)
"""
)

BY_PROC = (
    SEARCH
    + """
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline", "maps", "mountinfo"): read(f"/proc/{pid}/{name}")
    for link in ("cwd", "root", "fd"):
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/{link}"):
                path = f"/proc/{pid}/{link}/{name}"
                if os.path.isfile(path): read(path)
                elif os.path.isdir(path + "/transcriptions"):
                    for file in os.listdir(path + "/transcriptions"): read(f"{path}/transcriptions/{file}")
answer(lambda n: found[0] if found else "nothing " + n)
"""
)

BY_ENVIRONMENT = (
    SEARCH
    + """
for value in list(os.environ.values()) + sys.argv:
    look(value)
    if os.path.isdir(value):
        for place, folders, files in os.walk(value):
            if "pyvenv.cfg" in files: folders[:] = []; continue  # the interpreter, which may lie below /tmp
            for name in files: read(os.path.join(place, name))
answer(lambda n: found[0] if found else "nothing " + n)
"""
)

OUTSIDE = """
written = []
own = ["/sandbox/submission", "/sandbox/template/hw_base", sys.argv[1]]
for place in ["/etc", "/usr/lib", "/root", "/dev", "/", *own]:
    with contextlib.suppress(OSError): open(place + "/hw_attack", "w").write("x"); written.append(place)
assert not written, written
answer(lambda n: "text " + n)
"""

DAEMON = f"""
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in range(3): os.close(fd)
        os.execvp("python3", ["python3", "-c", "import time; time.sleep(600)", "{MARK}"])
    os._exit(0)
os.wait()
answer(lambda n: "text " + n)
"""

KILL = """
import signal
for pid in (os.getppid(), 1, -1):
    with contextlib.suppress(OSError): os.kill(pid, signal.SIGKILL)
answer(lambda n: "text " + n)
"""

FORGE = """
for folder in (".", "..", "/sandbox/work", sys.argv[1], sys.argv[1] + "/.."):
    for name in ("report.json", "results.json", "result.json"):
        with contextlib.suppress(OSError):
            path = os.path.join(folder, name)
            open(path, "w").write('{"score": 100, "exit_code": 0, "status": "graded"}'); os.chmod(path, 0o444)
"""
