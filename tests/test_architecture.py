"""The shape of the tree: who may import whom, how long files are, where dangerous calls may stand."""

import ast
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PACKAGES = [path.name for path in sorted(ROOT.glob("hw_*")) if (path / "__init__.py").exists()]
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
EVERYTHING = [*SOURCES, ROOT / "train.py", ROOT / "test.py", *sorted((ROOT / "tests").rglob("*.py"))]
EVERYTHING += sorted((ROOT / "benchmarks").rglob("*.py"))
ALLOWED = {"hw_base": set(), "hw_asr": {"hw_base"}, "hw_tts": {"hw_base"}}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_there_is_something_to_test():
    assert sorted(ALLOWED) == PACKAGES, "every package stands in this table"
    assert sorted(FLOORS) == PACKAGES, "and in the one of the rooms"
    assert len(SOURCES) > 300


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_tasks_import_the_base_and_never_each_other(path):
    package = path.relative_to(ROOT).parts[0]
    others = {name.split(".")[0] for name in imported(path)} & set(ALLOWED)
    assert others - {package} <= ALLOWED[package]


# From the ground up: a room imports from lower floors only, never from its own. The last floor is programs.
FLOORS = {
    "hw_base": (
        "errors registry task_packages recognizer text seeding compiled",
        "distributed storage texts",
        "files",
        "checkpoint config metrics nn writers watch",
        "audio",
        "data",
        "synthetic datasets",
        "task checks",
        "trained",
        "training grading",
        "examinations reports demos profiling exports",
        "runs",
        "average list check doctor fetch grade report demo upload new publish sweep profile export pack",
    ),
    "hw_asr": (
        "augmentations language_models losses models text_encoders",
        "data decoders watchers",
        "confusions metrics transcript",
        "recognizer trainer",
        "evaluation trainers checks",
        "task",
        "recognize score segment show_augmentations train_lm train_tokenizer tune_decoder",
    ),
    "hw_tts": (
        "alignment features text metrics watchers",
        "models data",
        "losses speakers public",
        "vocoders",
        "synthesizer checks",
        "evaluation",
        "trainers",
        "tasks",
        "align compare_finetunings convert_vocoder import_checkpoint resynthesize show_alignments synthesize",
    ),
}


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in SOURCES}


def modules_imported(path):
    """The modules of these packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in inner]
        else:
            continue
        yield from (name for name in names if name in MODULES)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_runs_from_a_lower_room_up(package):
    floors = {room: number for number, rooms in enumerate(FLOORS[package]) for room in rooms.split()}
    rooms = {module.split(".")[1] for module in MODULES if module.startswith(f"{package}.")}
    assert rooms == floors.keys(), "every room stands in the table above"
    wrong = []
    for module, path in MODULES.items():
        parts = module.split(".")
        # The package itself opens all its rooms.
        if parts[0] != package or len(parts) == 1:
            continue
        for target in modules_imported(path):
            other = target.split(".")
            if other[0] == package and len(other) > 1 and other[1] != parts[1] and floors[other[1]] >= floors[parts[1]]:
                wrong.append(f"{module} imports {target}")
    assert not wrong


def test_no_imports_run_in_circles():
    targets = {module: set(modules_imported(path)) - {module} for module, path in MODULES.items()}
    waiting = dict(targets)
    while done := [module for module, needs in waiting.items() if not needs & waiting.keys()]:
        for module in done:
            del waiting[module]
    assert not waiting


def test_no_imports_between_the_rooms_of_a_room_run_in_circles():
    """Such as `hw_asr/decoders/compiled` and `tensor`, which stand in no table."""
    imports = {
        (module.rpartition(".")[0], target.rpartition(".")[0])
        for module, path in MODULES.items()
        if path.name != "__init__.py"
        for target in modules_imported(path)
    }
    siblings = {(a, b) for a, b in imports if a != b and a.rpartition(".")[0] == b.rpartition(".")[0] != ""}
    assert {("hw_asr.decoders.compiled", "hw_asr.decoders.scoring")} <= siblings
    assert not [(a, b) for a, b in siblings if (b, a) in siblings and a.count(".") > 1]


@pytest.mark.parametrize("room", sorted({path.parent for path in SOURCES}), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_room_says_what_it_is_for(room):
    purpose = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
    assert purpose
    assert len(purpose.splitlines()[0]) > 15


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_of_others_are_read_in_one_place(path):
    """`torch.load` stands in the checkpoint module alone, and nobody unpickles or evaluates."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called == "torch.load":
            assert path.name == "checkpoint.py"
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
        assert called not in (
            "pickle.load",
            "pickle.loads",
            "eval",
            "exec",
            "yaml.load",
            "yaml.unsafe_load",
            "os.system",
        )


def in_fresh_process(code):
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("package", sorted(set(PACKAGES) - {"hw_base"}))
def test_importing_a_task_registers_all_of_it_and_of_the_base(package):
    """A module that its package does not import would leave its components out of the registries."""
    registering = re.compile(r"\b[A-Z_]+\.register\(")
    sources = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in ("hw_base", package)]
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sources
        if registering.search(path.read_text(encoding="utf-8"))
    ]
    assert len(modules) > 10
    missing = f"print([name for name in {modules!r} if name not in sys.modules])"
    assert in_fresh_process(f"import sys, {package}; {missing}") == "[]"


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_needs_four_packages_alone(package):
    """So the same code runs on a bare machine: everything heavy is imported where it is used."""
    heavy = "torchaudio soundfile comet_ml wandb tensorboard kenlm flashlight pyworld librosa matplotlib numba "
    heavy += (
        "sentencepiece editdistance espeakng_loader scipy pandas rapidfuzz PIL praatio jinja2 gradio plotly selenium"
    )
    code = f"import {package}, sys; print(sorted(set({heavy.split()!r}) & set(sys.modules)))"
    assert in_fresh_process(code) == "[]"


def test_style():
    """`make lint`, where ruff is installed."""
    pytest.importorskip("ruff", reason="ruff is not installed")
    for arguments in (["check", "--quiet"], ["format", "--check", "--quiet"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *arguments, "."], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_types():
    """`make types`."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    command = [sys.executable, "-m", "mypy", "hw_base", "hw_asr", "hw_tts", "train.py", "test.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
