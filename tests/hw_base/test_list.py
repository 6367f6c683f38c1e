"""``python -m hw_base.list``: every name has a purpose, every argument a type and an explanation."""

import inspect
import re

import pytest

import hw_asr  # noqa: F401 - fills the registries
import hw_tts  # noqa: F401
from hw_base import list as listing
from hw_base.config import read, resolve
from tests.conftest import ROOT

NAMES = [(kind, name) for kind, entries in listing.REGISTRIES.items() for name in entries]
TEXTS = [*(ROOT / "configs").rglob("*.*"), ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
EXAMPLES = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "configs.md").read_text(encoding="utf-8"), re.DOTALL)
# Components of torch that are registered because a config may well want them.
OF_TORCH = [name for kind, name in NAMES if listing.REGISTRIES[kind][name].__module__.startswith("torch.")]


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_a_registered_name_has_a_purpose(kind, name):
    text = listing.purpose(listing.REGISTRIES[kind][name])
    assert len(text) > 10
    assert not text.startswith("See ")


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_a_description_holds_every_argument_with_its_explanation(kind, name):
    target = listing.REGISTRIES[kind][name]
    text = listing.describe(kind, name)
    runtime, _ = listing._given_by_code(listing.REGISTRIES[kind])
    for key in inspect.signature(target).parameters:
        if key in runtime:
            assert re.search(rf"Given by the program: .*\b{key}\b", text)
        else:
            explained = re.search(rf"^  {key}: \S.*\n( {{6}}\S)?", text, re.MULTILINE)
            assert explained
            assert explained[1] or name in OF_TORCH, f"{key} is not explained in the docstring of {name}"


def test_the_whole_list(capsys):
    assert listing.main([]) == 0
    out = capsys.readouterr().out
    assert [line[:-1] for line in out.splitlines() if line.endswith(":") and line[0] != " "] == list(listing.REGISTRIES)
    assert re.search(r"^  DeepSpeech2 +Convolutions, bidirectional", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) < 300


def test_one_name(capsys):
    assert listing.main(["models", "DeepSpeech2"]) == 0
    out = capsys.readouterr().out
    assert "  n_hidden: int (> 0, <= 65536) = 512\n" in out
    assert "  cell: 'gru' or 'lstm' = " in out
    assert "Given by the program: n_mels, n_tokens" in out
    assert "spectrogram (Tensor): features, (B, F, T)" in out
    assert "2015" in out or "2016" in out  # the paper
    assert listing.main(["schedulers", "ReduceLROnPlateau"]) == 0
    assert re.search("  mode: .*'min', 'max'.*, by default from the run", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["model"], "no kind is named 'model'. Did you mean 'models'?"),
        (["models", "DeepSpeach2"], "no model is named 'DeepSpeach2'. Did you mean 'DeepSpeech2'?"),
    ],
)
def test_a_mistake_gives_its_line(arguments, expected, capsys):
    assert listing.main(arguments) == 2
    assert capsys.readouterr().err == f"error: {expected}\n"


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in NAMES if name not in OF_TORCH])
def test_a_registered_name_stands_in_a_config_or_in_the_docs(kind, name):
    written = re.compile(rf"(?<![\w.]){name}(?!\w)")
    default = [entry for entry in _defaults() if entry == name]
    assert default or any(written.search(path.read_text(encoding="utf-8")) for path in TEXTS if path.is_file())


def _defaults():
    """What configs get without naming it."""
    for task in listing.REGISTRIES["tasks"].values():
        yield from (task.default_collate, task.default_trainer)
        yield from (value for value in task.defaults.values() if isinstance(value, str))
    for trainer in listing.REGISTRIES["trainers"].values():
        yield from trainer.default_losses.values()


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.splitlines()[1])
def test_a_section_of_the_docs_is_accepted(block):
    section = read.parse_yaml(block, "docs/configs.md")
    base = {"asr": "ds2", "tts": "fastspeech2"}[section["task"]]
    tree = read.read(ROOT / "configs" / "tiny" / f"{base}.json")
    tree["data"].update(section.pop("data", {}))
    resolve.resolve({**tree, **section})
