"""What a submission may try, as rows; ``python -m tests.hw_base.grading.attacks`` runs them and prints the table."""

import contextlib
import io
import json
import os
import pickle
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from hw_base.grading import sandbox
from hw_base.grading.classroom import grade_class
from hw_base.grading.single import grade
from tests.hw_base.grading import programs
from tests.hw_base.grading.cases import ALTERED, HONEST, TEXTS, make_request, write_hidden
from tests.hw_base.grading.programs import MARK

LIMITS = "time=20,memory=2G,disk=20M,processes=40"
COMMAND = ["python", "main.py", "{data}"]


@dataclass(frozen=True)
class Attack:
    """One row.

    Attributes:
        name: what is tried.
        exit_code: of the grading.
        sign: a finding, a limit or words of the reason in the report; empty where the attempt just fails.
        stopped_by: what the documentation says of it.
        code: the program that is handed in; or
        make: a function that writes the submission and returns its path.
        limits: of the prediction stage.
    """

    name: str
    exit_code: int
    sign: str
    stopped_by: str
    code: str | None = None
    make: object = None
    limits: str = LIMITS
    files: dict = field(default_factory=dict)

    @property
    def row(self):
        return f"| {self.name} | {self.exit_code} | {self.sign or '-'} | {self.stopped_by} |"


def _checkpoint(folder, content, config=None):
    (folder / "checkpoint.pth").write_bytes(content)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


class _Runs:
    def __reduce__(self):
        return os.system, (f"touch /tmp/{MARK}",)


def _hostile_pickle(folder):
    """In the form of a torch file, whose pickle runs a program when it is read as older programs read it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": _Runs()}, protocol=2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return _checkpoint(folder, buffer.getvalue(), {"arch": {"type": "DeepSpeech2", "args": {}}, "preprocessing": {}})


def _zip_bomb(folder):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("output.json", bytes(200 << 20))
    return path


def _tar(folder, name, kind=None, link=""):
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(name)
        content = json.dumps([{"id": "utt0", "pred_text_argmax": "x"}]).encode()
        if kind is None:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        else:
            member.type, member.linkname = kind, link
            archive.addfile(member)
    return path


def _deep(folder):
    (folder / "output.json").write_text("[" * 100_000 + "]" * 100_000)
    return folder


def _link(folder):
    (folder / "output.json").symlink_to("/etc/passwd")
    return folder


def _predictions(rows):
    def make(folder):
        (folder / "output.json").write_text(rows() if callable(rows) else json.dumps(rows))
        return folder

    return make


def _texts(text):
    return [{"id": key, "pred_text_argmax": text(key)} for key in TEXTS]


def _many():
    rows = [{"id": f"x{i}", "pred_text_argmax": "a"} for i in range(10**6)]
    return json.dumps(rows + _texts(lambda key: f"text of {key}"))


def _huge(folder):
    with (folder / "output.json").open("w") as file:
        file.truncate(300 << 20)
    return folder


def _path_outside(folder):
    from tests.recognizers import save_random

    section = '{"type": "BeamSearch", "args": {"lm": "/etc/passwd", "lm_weight": 0.5}}'
    save_random(folder / "checkpoint.pth", [f"decoders.lm={section}"])
    return folder


def _nan():
    return '[{"id": "utt0", "pred_text_argmax": NaN}]'


SHOWS = "nothing of the grader's folders is visible inside"
ATTACKS = [
    Attack("sleeps for ever", 5, "time", "limit of time", "import time; time.sleep(10**6)", limits="time=1"),
    Attack(
        "forks without end",
        6,
        "processes",
        "limit of processes",
        "while True:\n with contextlib.suppress(OSError): os.fork()",
    ),
    Attack("leaves a daemon (double fork, setsid)", 0, "", "its process namespace ends with it", programs.DAEMON),
    Attack("eats memory", 6, "memory", "limit of memory", "x = bytearray(8 << 30)"),
    Attack(
        "fills the disk",
        6,
        "disk",
        "work folder of limited size",
        "f = open('x', 'wb')\nwhile True: f.write(bytes(1 << 20))",
    ),
    Attack(
        "fills the shared memory",
        6,
        "disk",
        "file systems of limited size",
        "f = open('/dev/shm/x', 'wb')\nwhile True: f.write(bytes(1 << 20))",
    ),
    Attack("prints a gigabyte", 6, "printed", "limit of output", "while True: sys.stdout.write('x' * (1 << 20))"),
    Attack(
        "opens the network",
        4,
        "Network is unreachable",
        "own network namespace",
        "import socket; socket.create_connection(('192.0.2.1', 80), 5)",
    ),
    Attack("looks for the references by name", 0, "", SHOWS, programs.BY_NAME),
    Attack("looks for them by /proc", 0, "", SHOWS, programs.BY_PROC),
    Attack("looks for them by the environment", 0, "", SHOWS, programs.BY_ENVIRONMENT),
    Attack("writes outside its folder", 0, "", "everything else is read-only", programs.OUTSIDE),
    Attack("kills its parent", 0, "", "the first process of a namespace cannot be killed from inside", programs.KILL),
    Attack("exits 0 at once", 3, "left no", "predictions are looked for, not exit codes", "os._exit(0)"),
    Attack(
        "forges the results first, read-only",
        3,
        "left no",
        "results are written outside, by another process",
        programs.FORGE,
    ),
    Attack(
        "leaves a stale results file",
        3,
        "stale_output",
        "removed before the program starts",
        "pass",
        files={"output.json": json.dumps(_texts(TEXTS.get))},
    ),
    Attack(
        "hands out a link as its output",
        3,
        "left no",
        "only plain files leave the sandbox",
        "os.symlink('/etc/passwd', 'output.json')",
    ),
    Attack("hostile pickle", 7, "would run", "nothing of a checkpoint is executed", make=_hostile_pickle),
    Attack(
        "a config that names a path outside",
        7,
        "not in the submission",
        "paths stay in the submission",
        make=_path_outside,
        limits="time=60,memory=2G,disk=20M,processes=40",  # a model is opened: seconds, on a busy machine many
    ),
    Attack("zip bomb", 7, "unpacks to more", "quota", make=_zip_bomb),
    Attack(
        "`..` in an archive", 7, "outside of the folder", "names are checked", make=lambda f: _tar(f, "../output.json")
    ),
    Attack(
        "a link in an archive",
        7,
        "link or a device",
        "plain files alone",
        make=lambda f: _tar(f, "output.json", tarfile.SYMTYPE, "/etc/passwd"),
    ),
    Attack("a link in a folder", 7, "link or a device", "plain files alone", make=_link),
    Attack(
        "returns the references",
        0,
        "canary_match",
        "altered references",
        make=_predictions(_texts(lambda k: ALTERED if k == "utt5" else TEXTS[k])),
    ),
    Attack("NaN as a prediction", 3, "must be a text", "types are checked", make=_predictions(_nan)),
    Attack("10^6 hypotheses", 0, "extra_ids", "only known ids count", make=_predictions(_many), limits="disk=100M"),
    Attack(
        "ids with `..`",
        0,
        "extra_ids",
        "ids are never paths",
        make=_predictions([*_texts(lambda k: f"text of {k}"), {"id": "../../x", "pred_text_argmax": "a"}]),
    ),
    Attack(
        "one constant",
        0,
        "constant_output",
        "predictions are compared with each other",
        make=_predictions(_texts(lambda key: "the same")),
    ),
    Attack(
        "predictions too large to be read",
        3,
        "more than any predictions",
        "bounds on what the scorer reads",
        make=_huge,
        limits="disk=400M",
    ),
    Attack(
        "control characters and ANSI",
        0,
        "control_characters",
        "escaped in every report",
        make=_predictions(_texts(lambda k: f"\x1b[2J{k}\u202e")),
    ),
    Attack(
        "lists in lists, 100,000 deep",
        3,
        "nested too deeply",
        "what cannot be read is refused",
        make=_deep,
    ),
    Attack(
        "absurdly long texts",
        0,
        "absurd_length",
        "they count as missing",
        make=_predictions(_texts(lambda k: f"{k} " * 5000)),
    ),
    Attack("another student's output", 0, "equals_another", "mistakes are compared in a class", make="class"),
]


def needs_sandbox(attack):
    return attack.code is not None or attack.make in (_hostile_pickle, _path_outside)


def perform(attack, folder):
    """Grade an attack; the report and the folder that it was made in.

    Args:
        folder: new; gets the hidden data, the submission and the report.
    """
    data = write_hidden(folder / "hidden")
    submission = folder / "submission"
    submission.mkdir()
    if attack.make == "class":
        return _in_class(folder, data)
    for name, content in attack.files.items():
        (submission / name).write_text(content)
    settings = {}
    if attack.code is not None:
        (submission / "main.py").write_text(HONEST + attack.code)
        settings = {"command": COMMAND}
    else:
        submission = attack.make(submission)
    request = make_request(data, attack.limits, **settings)
    return grade(submission, "student", request, folder / "out" / "report.json")


def _in_class(folder, data):
    for name in ("ada", "bob"):
        (folder / "class" / name).mkdir(parents=True)
        _predictions(_texts(lambda key: f"wrong text of {key}"))(folder / "class" / name)
    with contextlib.redirect_stdout(io.StringIO()):
        reports = grade_class(folder / "class", make_request(data), folder / "out", jobs=1)
    (folder / "out" / "report.json").write_text(json.dumps(reports[0]))
    return reports[0]


def says(report, sign):
    """Whether a report names a sign: a finding, a limit that was hit, or a part of its reason."""
    names = [finding["name"] for finding in report["findings"]]
    return sign in names or sign in report["limits_hit"] or sign in report["reason"]


def survivors():
    """Processes that should have died with the sandbox."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if MARK.encode() in command and int(name) != os.getpid():
            found.append(name)
    return found


HEAD = "| attack | exit code | the report says | what stops it |\n| --- | --- | --- | --- |"


def main():
    reason = sandbox.problem()
    print(HEAD)
    failed = 0
    for attack in ATTACKS:
        if reason is not None and needs_sandbox(attack):
            print(f"| {attack.name} | skipped | {reason} | |")
            continue
        with tempfile.TemporaryDirectory() as folder:
            report = perform(attack, Path(folder) / "attack")
        good = report["exit_code"] == attack.exit_code and (not attack.sign or says(report, attack.sign))
        failed += not (good and not survivors())
        print(attack.row if good else f"| {attack.name} | {report['exit_code']} | UNEXPECTED: {report['reason']} | |")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
