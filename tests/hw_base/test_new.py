"""``python -m hw_base.new``: the package that it begins keeps its own tests; with holes, each is named by its check."""

import json
import os
import subprocess
import sys

import pytest

from hw_asr.checks.models import MODEL
from hw_base import check, new, registry
from hw_base.config import components
from hw_base.errors import ConfigError, MissingPackageError
from hw_base.registry import Registry
from hw_base.runs.cli import train_main
from tests.conftest import ROOT

REGISTRIES = [value for value in vars(registry).values() if isinstance(value, Registry)]
# Name of the hole without the prefix -> kind and name of the part whose check finds it.
HOLES = {
    "asr": {
        "Collate.join": ("collates", "Collate"),
        "Noise.apply": ("augmentations", "Noise"),
        "Subsampling.output_lengths": ("models", "Model"),
        "Subsampling.forward": ("models", "Model"),
        "Model.forward": ("models", "Model"),
        "BeamSearch.search": ("decoders", "BeamSearch"),
    },
    "tts": {
        "Collate.join": ("collates", "Collate"),
        "LengthRegulator.forward": ("regulators", "regulator.LengthRegulator"),
        "FFTBlock.forward": ("blocks", "blocks.FFTBlock"),
        "DurationPredictor.forward": ("blocks", "blocks.DurationPredictor"),
    },
}
EACH = [(task, hole) for task, holes in HOLES.items() for hole in holes]


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Makes a package of a name of its own in an empty folder; what it registers is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = [dict(one._entries) for one in REGISTRIES]
    made = []

    def make(task, holes=()):
        name = f"own_{abs(hash(str(tmp_path))) % 10**8}_{len(made)}"
        prefix = "".join(part.capitalize() for part in name.split("_"))
        named = [
            f"{prefix}{hole}" if hole.split(".")[0] in ("Collate", "Noise", "Model", "BeamSearch") else hole
            for hole in holes
        ]
        made.append(name)
        return new.create(name, task, new.Holes(named)), prefix, named

    yield make
    for one, entries in zip(REGISTRIES, before, strict=True):
        one._entries = entries
    for name in [name for name in sys.modules if name.split(".")[0] in made]:
        del sys.modules[name]


def run_check(folder, prefix, kind, part):
    name = f"{folder.name}.{part}" if "." in part else f"{prefix}{part}"
    return check.main([kind, name, "--import", folder.name])


@pytest.mark.parametrize("task", ["asr", "tts"])
def test_a_new_package_passes_its_own_tests(task, tmp_path, monkeypatch, capsys):
    """Every part keeps its contract and a few steps of training run, in a folder beside which nothing lies."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_homework", raising=False)  # of another test
    assert new.main(["my_homework", "--task", task]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path / 'my_homework'}/README.md says what to do next"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "my_homework/tests"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert json.loads((tmp_path / "my_homework" / "config.json").read_text())["task"] == task


@pytest.mark.parametrize("task", ["asr", "tts"])
def test_a_new_package_is_in_the_style_of_this_project(task, begin):
    pytest.importorskip("ruff", reason="ruff is not installed")
    folder, _, _ = begin(task)
    settings = ["--config", str(ROOT / "ruff.toml")]
    for arguments in (["check", "--ignore", "I001", *settings], ["format", "--check", *settings]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments, "."], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("task", "hole"), EACH)
def test_the_check_of_a_part_names_what_is_still_to_be_written(task, hole, begin, capsys):
    folder, prefix, (named,) = begin(task, [hole])
    kind, part = HOLES[task][hole]
    assert run_check(folder, prefix, kind, part) == 1
    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if "FAILS" in line]
    assert len(failed) == 1
    assert failed[0].startswith(f"  FAILS  every part is written; still to be written: {named} ({folder.name}/")
    assert "usual cause" not in "\n".join(lines)


@pytest.mark.parametrize("task", ["asr", "tts"])
def test_with_course_every_graded_part_is_left_out(task, begin, capsys, tmp_path):
    assert new.main(["my_course", "--task", task, "--course"]) == 0
    shown = [line.removeprefix("  to be written: ") for line in capsys.readouterr().out.splitlines()[1:]]
    expected = [
        h if h.split(".")[0] in ("Subsampling", "LengthRegulator", "FFTBlock", "DurationPredictor") else f"MyCourse{h}"
        for h in HOLES[task]
    ]
    assert sorted(shown) == sorted(expected)
    readme = (tmp_path / "my_course" / "README.md").read_text()
    assert all(f"* `{name}`" in readme for name in expected)


@pytest.mark.parametrize(
    ("task", "hole", "file"), [("asr", "Model.forward", "model"), ("tts", "Collate.join", "collate")]
)
def test_training_with_a_part_that_is_not_written_is_one_line(task, hole, file, begin, capsys):
    folder, _, (named,) = begin(task, [hole])
    few = ["data.train.datasets.0.args.n_utterances=60", "data.val.datasets.0.args.n_utterances=2"]
    command = ["-c", f"{folder}/config.json", "--import", folder.name, "--dry-run", "-d", "cpu"]
    assert train_main([*command, "--set", *few]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    last = error.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert named in last
    assert f"({folder.name}/{file}.py, line " in last


WRONG = [
    ("asr", "collate.py", "first.new_zeros", "first.new_ones", ("collates", "Collate"), "the padding is zero"),
    (
        "asr",
        "collate.py",
        "row[..., : value",
        "row[..., -value",
        ("collates", "Collate"),
        "every item stands in its row",
    ),
    (
        "asr",
        "augmentation.py",
        "torch.randn(x.shape, generator=generator)",
        "torch.randn(x.shape)",
        ("augmentations", "Noise"),
        "the same generator gives the same result",
    ),
    (
        "asr",
        "model.py",
        "length = (length + 1)",
        "length = length",
        ("models", "Model"),
        "output lengths equal the real ones",
    ),
    (
        "asr",
        "model.py",
        "x = x.masked_fill(~length_mask(length, x.shape[-1])[:, None], 0.0)",
        "pass",
        ("models", "Model"),
        "an utterance alone equals itself in a padded batch",
    ),
    (
        "asr",
        "decoder.py",
        "before = blank_score",
        "before = total",
        ("decoders", "BeamSearch"),
        "a wide beam finds the most probable text",
    ),
    (
        "asr",
        "decoder.py",
        "after_blank[prefix] = log_add(after_blank[prefix], total",
        "after_blank[prefix] = max(after_blank[prefix], token_score",
        ("decoders", "BeamSearch"),
        "scores are log probabilities",
    ),
    (
        "tts",
        "regulator.py",
        "repeat_interleave(counts,",
        "repeat_interleave(counts.clamp(min=1),",
        ("regulators", "regulator.LengthRegulator"),
        "every token lasts its frames",
    ),
    (
        "tts",
        "regulator.py",
        "frames.clamp(max=n_frames)",
        "frames",
        ("regulators", "regulator.LengthRegulator"),
        "what lies beyond max frames is cut off",
    ),
    (
        "tts",
        "blocks.py",
        "key_padding_mask=~mask, ",
        "",
        ("blocks", "blocks.FFTBlock"),
        "an utterance alone equals itself in a padded batch",
    ),
    (
        "tts",
        "blocks.py",
        "return (x + self.dropout(y)).masked_fill(padding, 0.0)",
        "return x + self.dropout(y)",
        ("blocks", "blocks.FFTBlock"),
        "the padding is zero",
    ),
    (
        "tts",
        "blocks.py",
        "x = x + self.dropout(attended)",
        "x = x + F.dropout(attended)",
        ("blocks", "blocks.FFTBlock"),
        "evaluation draws nothing at random",
    ),
    (
        "tts",
        "blocks.py",
        "x.masked_fill(padding, 0.0).transpose(1, 2)).transpose(1, 2)",
        "x.transpose(1, 2)).transpose(1, 2)",
        ("blocks", "blocks.DurationPredictor"),
        "an utterance alone equals itself in a padded batch",
    ),
]


@pytest.mark.parametrize(("task", "file", "right", "wrong", "part", "broken"), WRONG)
def test_a_wrong_solution_is_caught(task, file, right, wrong, part, broken, begin, capsys):
    folder, prefix, _ = begin(task)
    text = (folder / file).read_text()
    assert right in text
    (folder / file).write_text(text.replace(right, wrong))
    if part[0] == "models":  # all properties of one take seconds
        components.import_packages([folder.name])
        outcome = MODEL[broken].check(check.find("models", f"{prefix}Model"))
        assert (outcome.holds, outcome.cause) == (False, MODEL[broken].cause)
        return
    assert run_check(folder, prefix, *part) == 1
    assert f"  FAILS  {broken}\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["My", "1st", "my-homework", "../x", "class", "torch", "json", "hw_asr", ""])
def test_names_that_no_package_can_have_or_that_are_taken_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"choose another name|such as my_homework"):
        new.create(name, "asr")
    assert list(tmp_path.iterdir()) == []


def test_without_jinja_nothing_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingPackageError, match="pip install Jinja2"):
        new.create("mine", "asr")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "copied"),
    [
        ("https://example.org/a/base.git", True),
        ("git@example.org:a/base.git", True),
        ("https://name:secret@example.org/a/base.git", False),
        ("https://token@example.org/a/base.git", False),
        ("/srv/base", False),
    ],
)
def test_the_address_of_the_base_is_copied_without_secrets(address, copied, tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", address], check=True)
    monkeypatch.setattr(new, "_COMMON", tmp_path)
    assert new._address() == (address if copied else "ADDRESS")


def test_what_lies_there_is_not_touched(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    assert new.main(["mine", "--task", "tts"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
