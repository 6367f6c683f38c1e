"""Checkpoints of strangers: sealed with a right checksum, and meant to do harm."""

import collections
import copy
import importlib
import json
import os
import pickle
import resource
import sys
import zipfile

import pytest
import torch

import test as test_script
from hw_base import checkpoint
from hw_base.errors import HwError
from tests.conftest import ROOT
from tests.faults.children import in_child
from tests.faults.table import row
from tests.hw_base.files.test_checkpoint_checks import BAD, leaves, stored

GOOD = ROOT / "tests" / "data" / "first_edition" / "ds2" / "checkpoint-00000008.pth"
MEMORY = 1 << 30

# Functions that a pickle may name, with arguments that would leave a trace; TRACE becomes a path.
CALLS = [
    ("os", "system", ("touch TRACE",)), ("posix", "system", ("touch TRACE",)), ("os", "mkdir", ("TRACE",)),
    ("os", "popen", ("touch TRACE",)), ("os", "execv", ("/usr/bin/touch", ["touch", "TRACE"])),
    ("os", "remove", ("TRACE",)),
    ("builtins", "eval", ("open('TRACE', 'w')",)), ("builtins", "exec", ("open('TRACE', 'w')",)),
    ("builtins", "open", ("TRACE", "w")), ("builtins", "__import__", ("antigravity",)), ("builtins", "breakpoint", ()),
    ("builtins", "getattr", (1, "real")), ("builtins", "compile", ("1", "x", "eval")), ("sys", "exit", (0,)),
    ("subprocess", "Popen", (["touch", "TRACE"],)), ("subprocess", "check_output", (["touch", "TRACE"],)),
    ("subprocess", "run", (["touch", "TRACE"],)), ("importlib", "import_module", ("antigravity",)),
    ("runpy", "run_path", ("TRACE",)), ("pty", "spawn", (["touch", "TRACE"],)), ("shutil", "rmtree", ("TRACE",)),
    ("shutil", "copyfile", ("/etc/passwd", "TRACE")), ("socket", "create_connection", (("127.0.0.1", 9),)),
    ("urllib.request", "urlopen", ("http://127.0.0.1:9/",)), ("webbrowser", "open", ("http://127.0.0.1:9/",)),
    ("ctypes", "CDLL", ("libc.so.6",)), ("code", "interact", ()), ("torch", "load", ("TRACE",)),
    ("torch.hub", "load", ("a/b", "c")), ("torch.jit", "load", ("TRACE",)), ("numpy", "load", ("TRACE",)),
    ("numpy", "save", ("TRACE", [1])), ("operator", "methodcaller", ("system", "touch TRACE")),
    ("functools", "partial", (print, "x")), ("types", "FunctionType", (1, {})), ("logging", "FileHandler", ("TRACE",)),
    ("tempfile", "mkdtemp", ()), ("pathlib", "Path", ("TRACE",)), ("signal", "alarm", (1,)), ("time", "sleep", (999,)),
]  # fmt: skip


class Call:
    """Pickles as a call of any function."""

    def __init__(self, module, name, arguments):
        self.call = getattr(importlib.import_module(module), name), arguments

    def __reduce__(self):
        return self.call


class WithState:
    """Pickles as an object whose state is set by a hostile class."""

    def __init__(self, module, name):
        self.named = getattr(importlib.import_module(module), name)

    def __reduce__(self):
        return object.__new__, (self.named,), {"x": 1}


class View:
    """Pickles as a tensor of any shape over three numbers."""

    def __init__(self, *place):
        self.place = place

    def __reduce__(self):
        storage = torch.storage.TypedStorage(
            wrap_storage=torch.zeros(3).untyped_storage(), dtype=torch.float32, _internal=True
        )
        return torch._utils._rebuild_tensor_v2, (storage, *self.place, False, collections.OrderedDict())


def placed(state, value, number):
    """The state with a value at one of three places."""
    state = copy.copy(state)
    if number % 3 == 0:
        state["model"] = {**state["model"], next(iter(state["model"])): value}
    elif number % 3 == 1:
        state["config"] = {**state["config"], "name": value}
    else:
        state["extra"] = [value]
    return state


def gadgets(state, folder):
    trace = str(folder / "trace")
    for number, (module, name, arguments) in enumerate(CALLS):
        text = json.loads(json.dumps(arguments, default=lambda _: None).replace("TRACE", trace))
        yield f"calls {module}.{name}", placed(state, Call(module, name, tuple(text)), number)
    for number, (module, name) in enumerate(
        [("subprocess", "Popen"), ("types", "SimpleNamespace"), ("ctypes", "CDLL")]
    ):
        yield f"sets the state of {module}.{name}", placed(state, WithState(module, name), number)


def tensors(state):
    one = torch.zeros(1)
    bad = {
        "10^12 numbers in 4 bytes": one.as_strided((10**6, 10**6), (0, 0)),
        "10^18 numbers in 4 bytes": one.as_strided((10**9, 10**9), (0, 0)),
        "overlapping windows": torch.zeros(100).as_strided((50, 50), (1, 1)),
        "a view of 4 TB": View(0, (10**6, 10**6), (10**6, 1)),
        "a view before its storage": View(-1000, (3,), (1,)),
        "a view behind its storage": View(10**9, (3,), (1,)),
        "a view backwards": View(3, (3,), (-1,)),
        "a negative size": View(0, (-3,), (1,)),
        "sparse": torch.eye(3).to_sparse(),
        "meta": torch.empty(10**6, 10**6, device="meta"),
        "quantized": torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.qint8),
        "complex": torch.zeros(3, dtype=torch.complex64),
        "not finite": torch.full((3,), torch.nan),
        "no numbers": torch.zeros(0),
        "64 dimensions": torch.zeros([1] * 64),
    }
    for name, tensor in bad.items():
        yield f"a tensor: {name}", placed(state, tensor, 0)


def containers(state):
    endless, laughs, deep = [], ["ha"], {}
    endless.append(endless)
    for _ in range(40):
        laughs = [laughs, laughs]
    for _ in range(300):
        deep = {"x": deep}
    for name, value in {
        "endless": endless,
        "laughs": laughs,
        "deep": deep,
        "a text of 50 MB": "x" * 50_000_000,
    }.items():
        yield f"a container: {name}", placed(state, value, 2)
        yield f"a container in the config: {name}", placed(state, value, 1)


def changed_config(state, path, value):
    state = {**state, "config": copy.deepcopy(state["config"])}
    node = state["config"]
    *parents, last = path.split(".")
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
    node[int(last) if isinstance(node, list) else last] = value
    return state


def configs(state, folder):
    outside = str(folder.parent / "outside")
    speech = {"type": "SyntheticSpeech", "args": {"part": "test", "n_utterances": 2, "cache_dir": outside}}
    beam = {"type": "BeamSearch", "args": {"lm": "/etc/passwd"}}
    manifest = {"type": "Manifest", "args": {"path": "/etc/passwd"}}
    library = {"type": "LibriSpeech", "args": {"root": outside, "part": "test-clean", "download": True}}
    changes = {
        "paths: the cache": ("data.test.datasets", [speech]),
        "paths: a list": ("data.test.datasets", [manifest]),
        "paths: a download": ("data.test.datasets", [library]),
        "paths: any folder": ("data.test.datasets", [{"type": "CustomDir", "args": {"root": "/etc"}}]),
        "paths: a language model": ("decoders", {"argmax": {"type": "Greedy"}, "beam": beam}),
        "paths: the name of the run": ("name", "../../outside"),
        "paths: weights": ("init_from", "/etc/passwd"),
        "paths: a home": ("init_from", "~/.ssh/id_rsa"),
        "code: an import path": ("model", {"type": "os.system", "args": {"command": "touch x"}}),
        "code: packages": ("packages", ["antigravity"]),
        "sizes: 10^9 hidden units": ("model.args.n_hidden", 10**9),
        "sizes: 10^6 layers": ("model.args.n_layers", 10**6),
        "sizes: 10^9 bins": ("features.args.n_mels", 10**9),
        "sizes: 10^9 workers": ("data.test.workers", 10**9),
        "sizes: 10^9 utterances": ("data.test.datasets", [{**speech, "args": {"part": "test", "n_utterances": 10**9}}]),
        "sizes: a window of 10^9": ("features.args.n_fft", 10**9),
        "sizes: a rate of 10^12": ("features.args.sample_rate", 10**12),
        "numbers: infinity": ("optimizers.model.args.lr", float("inf")),
        "numbers: a tensor": ("seed", torch.zeros(3)),
        "names: a key that is no text": ("model.args", {1: 2}),
    }
    for name, (path, value) in changes.items():
        yield f"a config: {name}", changed_config(state, path, value)
    yield "packages that would be imported", {**state, "packages": ["antigravity"]}
    yield "a format of 10^30", {**state, "format": 10**30}


def malformed(state):
    """Parts replaced by nonsense."""
    places = [place for place in leaves(state) if place and place[0] in ("model", "text_encoder", "task", "config")]
    for number, bad in enumerate(BAD):
        place = places[number * 37 % len(places)]
        changed = copy.deepcopy(state)
        node = changed
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = bad
        yield f"{'.'.join(map(str, place))} is {type(bad).__name__}", changed


def bomb(path):
    """A file of the same records, compressed."""
    content = path.read_bytes()
    with zipfile.ZipFile(path) as source:
        records = [(record.filename, source.read(record)) for record in source.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in records:
            target.writestr(name, data)
        target.writestr("archive/data/999", bytes(100_000_000))
    checkpoint._seal(path)
    assert len(content) * 2 > path.stat().st_size


FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect", "pty.spawn",
             "socket.getaddrinfo", "webbrowser.open", "urllib.Request", "code.__new__", "ctypes.dlopen")  # fmt: skip


def watched(*folders):
    """From now on what a hostile file must not do is remembered: programs, connections, files outside the folders."""
    seen = []
    inside = tuple(os.path.realpath(folder) for folder in folders)

    def look(event, arguments):
        if event in FORBIDDEN and "espeak_worker" not in str(arguments):  # which speaks the corpus
            seen.append(f"{event} {arguments}")
        if event == "open" and isinstance(arguments[0], str) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            target = os.path.realpath(arguments[0])
            if not target.startswith((*inside, "/dev/")):
                seen.append(f"open {target}")
        if event in ("os.remove", "os.mkdir", "os.rename", "os.rmdir", "shutil.rmtree"):
            target = os.path.realpath(os.fsdecode(arguments[0]))
            if not target.startswith(inside):
                seen.append(f"{event} {target}")

    sys.addaudithook(look)
    return seen


def opened(path, folder, cache):
    """In a child: open the file in every way; what it did that it must not."""
    os.environ["XDG_CACHE_HOME"] = str(cache)
    os.environ["HOME"] = str(folder / "home")
    seen = watched(folder, cache)
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    lines = []
    for read in (checkpoint.load, checkpoint.load_untrusted, checkpoint.load_with_stubs):
        try:
            read(path)
        except HwError as error:
            lines.append(str(error))
    code = test_script.main(["-r", str(path), "-d", "cpu", "-o", str(folder / "output.json")])
    return {"seen": seen, "code": code, "lines": lines}


def filled(cache, folder):
    """In a child: make the corpus of the config, for which programs are started."""
    os.environ["XDG_CACHE_HOME"] = str(cache)
    return test_script.main(["-r", str(GOOD), "-d", "cpu", "-o", str(folder / "output.json")])


def attack(path, folder, cache):
    ended = in_child(lambda: opened(path, folder, cache), folder, seconds=60)
    assert ended.code == 0, f"ended with {ended.code}: {ended.said[-500:]}"
    assert ended.value["seen"] == [], ended.value["seen"]
    assert ended.value["code"] in (0, 2)
    assert "Traceback" not in ended.said
    assert all(len(line.splitlines()) == 1 for line in ended.value["lines"])
    assert (ended.value["code"] == 2) == ("error: " in ended.said)
    assert not (folder / "trace").exists()
    assert not (folder.parent / "outside").exists()


@row(
    11,
    "untrusted checkpoints with a valid checksum: pickles that call functions, archives that unpack to gigabytes, "
    "overlapping tensors, wrong sizes, paths to other files, malformed states",
    "nothing executed, connected or written outside; memory bounded to 1 GiB; used, or refused in one line",
)
def strangers(trials):
    state = checkpoint.load(GOOD)
    place, cache = trials.new_folder("hostile"), trials.new_folder("cache")
    in_child(lambda: filled(cache, place), place)
    hostile = [*gadgets(state, place), *tensors(state), *containers(state), *configs(state, place), *malformed(state)]
    for name, content in hostile if trials.whole else hostile[2::12]:
        with trials.trial(name) as folder:
            path = folder / "hostile.pth"
            try:
                stored(path, content)
            except (pickle.PicklingError, RecursionError, NotImplementedError, RuntimeError) as error:
                pytest.skip(f"torch does not write such files: {type(error).__name__} ({name})")
            attack(path, folder, cache)
    with trials.trial("compressed records") as folder:
        path = stored(folder / "hostile.pth", state)
        bomb(path)
        attack(path, folder, cache)
