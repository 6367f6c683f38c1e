"""Components of a package outside the repository: trained, evaluated, asked for by their checkpoint."""

import subprocess
import sys
import textwrap

import pytest

from hw_base.config.components import import_packages, packages_of, require
from hw_base.config.resolve import load
from hw_base.errors import ConfigError
from tests.conftest import ROOT

MODEL = """
    import torch
    from torch import Tensor

    from hw_asr.models.base import CTCModel
    from hw_base.registry import MODELS


    @MODELS.register()
    class OneLayer(CTCModel):
        def __init__(self, n_mels: int, n_tokens: int, bias: bool = True) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(n_mels, n_tokens, bias=bias)

        def output_lengths(self, length: Tensor) -> Tensor:
            return length

        def forward(self, spectrogram, spectrogram_length, **batch):
            log_probs = self.layer(spectrogram.transpose(1, 2)).log_softmax(-1)
            return {"log_probs": log_probs, "log_probs_length": spectrogram_length}
"""


@pytest.fixture
def homework(tmp_path):
    """A folder with a package of one's own in it."""
    package = tmp_path / "my_homework"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "models.py").write_text(textwrap.dedent(MODEL))
    return tmp_path


def run(folder, *programs):
    """Programs one after the other in one fresh process, in a folder; exit code and stderr."""
    calls = "; ".join(f"code = code or {script}.main({arguments!r})" for script, arguments in programs)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import train, test; code = 0; {calls}; sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_a_model_of_ones_own_package_is_trained_and_evaluated_and_asked_for(homework):
    flags = ["--import", "my_homework.models", "-d", "cpu"]
    config = str(ROOT / "configs" / "tiny" / "ds2.json")
    chosen = ["--set", "model=OneLayer", "trainer.max_steps=2", "trainer.log_every=1"]
    code, errors = run(
        homework,
        ("train", ["-c", config, "--run-dir", "run", *flags, *chosen]),
        ("test", ["-r", "run/checkpoint-00000002.pth", "-o", "output.json", *flags]),
    )
    assert code == 0, errors
    assert (homework / "output.json").exists()
    code, errors = run(homework, ("test", ["-r", "run/checkpoint-00000002.pth", "-d", "cpu"]))
    assert code == 2
    (line,) = [line for line in errors.splitlines() if line.startswith("error:")]
    assert "was trained with components of my_homework.models: add --import my_homework.models" in line


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_homework", "there is no such package; it must lie in the current folder"),
        ("folder/models.py", "expected the name of a package, such as my_homework, not a path"),
        ("broken_homework", "it cannot be imported: ZeroDivisionError: division by zero"),
        ("lacking_homework", "it cannot be imported: No module named 'not_installed'"),
    ],
)
def test_a_package_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch, name, message):
    (tmp_path / "broken_homework.py").write_text("1 / 0")
    (tmp_path / "lacking_homework.py").write_text("import not_installed")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError) as error:
        import_packages([name])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_this_project_asks_for_nothing():
    assert packages_of(load(ROOT / "configs" / "tiny" / "ds2.json")) == []
    require([], "checkpoint.pth")
    with pytest.raises(ConfigError, match=r"c\.pth: was trained with components of a, b: add --import a --import b"):
        require(["a", "b", "json"], "c.pth")
