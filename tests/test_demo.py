"""The notebooks of ``demo/``: what is stored of them, and that they run, from another folder than theirs."""

import contextlib
import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading

import pytest

from demo import execute, notebook
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "demo").glob("*.ipynb"))
FIRST_EDITION = ROOT / "tests" / "data" / "first_edition"
FIGURES = """
import json
real = compare(CHECKPOINT, 40)
print(json.dumps({"test": {name: point.wer for name, point in figures.items()}, "sizes": SIZES, "known": known,
                  "chosen": [chosen.lm_weight, chosen.wer], "val": [[p.lm_weight, p.wer] for p in points],
                  "real": real}))
"""


def code_of(path):
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_shows_what_it_does_and_nothing_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < execute.LARGEST
    assert not re.findall(r"(?<![\w.~:/])/(?:home|root|tmp|work|usr|mnt|content)/[\w.]+", text)
    assert "Traceback" not in text
    cells = code_of(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell["outputs"]) for cell in cells) > len(cells) // 2


def test_all_notebooks_find_the_project_by_the_same_cell():
    (cell,) = {"".join(code_of(path)[1]["source"]) for path in NOTEBOOKS}
    assert cell.startswith("def project():")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder, and notebooks with small settings."""
    for package in ("ipykernel", "nbclient", "nbformat"):
        pytest.importorskip(package, reason="runs the notebook")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HW_STEPS", "2")
    drive = tmp_path / "my drive"  # as in Colab
    drive.mkdir()
    shutil.copy(FIRST_EDITION / "ds2" / "checkpoint-00000008.pth", drive)
    monkeypatch.setenv("HW_CHECKPOINT", str(drive / "checkpoint-00000008.pth"))
    return tmp_path


def printed(made):
    outputs = [output for cell in made.cells for output in cell.get("outputs", ())]
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Nothing on the terminal."""


@contextlib.contextmanager
def served(folder):
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_the_notebook_on_recognition_measures_and_learns_what_a_link_brings(elsewhere, monkeypatch):
    (elsewhere / "site").mkdir()
    notebook.sample(elsewhere / "site" / "data.zip", 12)
    with served(elsewhere / "site") as address:
        monkeypatch.setenv("HW_LINK", f"{address}/data.zip")
        made = execute.execute(ROOT / "demo" / "asr.ipynb", elsewhere)
    text = printed(made)
    assert "asr_notebook/data: 12 recordings" in text
    assert len(list((elsewhere / "asr_notebook" / "predictions").glob("*.txt"))) == 12
    score = json.loads((elsewhere / "asr_notebook" / "score.json").read_text())
    assert f"WER {100 * score['wer']['corpus']:.2f} %, CER {100 * score['cer']['corpus']:.2f} %" in text
    for name in ("before", "after "):
        assert re.search(rf"^{name} \{{'wer_argmax': [\d.]+, 'cer_argmax': [\d.]+\}}$", text, re.MULTILINE)


def test_alone_a_notebook_clones_the_project_and_keeps_the_torch_that_is_there(tmp_path):
    """As in Colab, without a network: the repository is this one."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git repository to clone")
    head = "import os, subprocess, sys\nfrom pathlib import Path\n"
    install = head + "".join(code_of(ROOT / "demo" / "asr.ipynb")[1]["source"])
    for repository, code in (("", 1), (f"file://{ROOT}", 0)):
        script = f"REPOSITORY = {repository!r}\n{install}"
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
    assert re.fullmatch(r"torch \S+; newly installed: nothing\n", done.stdout)
    assert (tmp_path / "speech" / "train.py").exists()


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({"torch": "2.11.0+cu128", "numpy": "2.0.2"}, []),
        ({"torch": "2.11.1", "numpy": "2.0.2"}, []),
        ({"torch": "2.4.1+cu121", "numpy": "2.0.2"}, ["torch==2.11.0"]),
        ({"torch": "2.11.0"}, ["numpy"]),
        ({"torch": "2.11.0", "numpy": "1.0", "pydantic": "2.5.0"}, ["pydantic>=2.11,<3"]),
    ],
)
def test_only_what_is_missing_is_installed(versions, expected, monkeypatch):
    monkeypatch.setattr(notebook, "installed", versions.get)
    lines = ["torch==2.11.0", "numpy", 'nothing==1.0; python_version < "3"']
    lines += ["pydantic>=2.11,<3"] if "pydantic" in versions else []
    assert notebook.missing(lines) == expected


def test_requirements_of_the_notebooks_are_those_of_setup():
    lines = notebook.requirements(ROOT)
    assert {"torch==2.11.0", "pydantic>=2.11,<3", "sentencepiece==0.2.3"} <= set(lines)
    assert not any(line.startswith(("kenlm", "comet")) for line in lines)
    assert notebook.missing(lines) == []


def test_a_program_that_fails_ends_the_cell(elsewhere, capsys):
    with pytest.raises(RuntimeError, match=r"exit code 2: python -m hw_asr\.score a b"):
        notebook.run("python -m hw_asr.score a b")
    with pytest.raises(RuntimeError, match=r"exit code 2: python train\.py --nothing"):
        notebook.run("python train.py --nothing")
    assert capsys.readouterr().out.startswith("$ python -m hw_asr.score a b\n")


def test_a_notebook_that_is_not_there_is_named(capsys):
    assert execute.main(["nothing"]) == 2
    assert "no notebook nothing.ipynb" in capsys.readouterr().err


@pytest.mark.slow
def test_the_notebook_on_synthesis_speaks_with_every_control(elsewhere, monkeypatch):
    # Every phone of the course's sentences must occur in training.
    wide = "data.train.datasets.0.args.grammar=wide data.train.datasets.0.args.n_utterances=500"
    notebook.run(f"python train.py -c {ROOT}/configs/tiny/fastspeech2.json --run-dir wide --set {wide}")
    monkeypatch.setenv("HW_TTS_CHECKPOINT", str(elsewhere / "wide" / "model_best.pth"))
    text = printed(execute.execute(ROOT / "demo" / "tts.ipynb", elsewhere))
    assert "27 wavs" in text
    assert re.search(r"test: .*\bcer [\d.]+", text)


@pytest.mark.slow
def test_the_notebook_on_new_voices_compares_ways_to_begin(elsewhere, monkeypatch):
    monkeypatch.setenv("HW_TTS_CHECKPOINT", str(FIRST_EDITION / "fastspeech2" / "checkpoint-00000004.pth"))
    text = printed(execute.execute(ROOT / "demo" / "finetune_voices.ipynb", elsewhere))
    rows = dict(re.findall(r"^\| (mean|nearest|rows_only|scratch) \| ([\d.]+) ", text, re.MULTILINE))
    assert rows.keys() == {"mean", "nearest", "rows_only", "scratch"}


@pytest.mark.slow
def test_the_beam_search_notebook_runs_and_the_language_model_lowers_the_word_error_rate(elsewhere, monkeypatch):
    """In a clone without a checkpoint: a small one is trained."""
    import nbformat

    monkeypatch.delenv("HW_CHECKPOINT")
    path = elsewhere / "beam_search.ipynb"
    made = nbformat.read(ROOT / "demo" / "beam_search.ipynb", as_version=4)
    made.cells.append(nbformat.v4.new_code_cell(FIGURES))
    nbformat.write(made, path)
    made = execute.execute(path, elsewhere)
    figures = json.loads(made.cells[-1].outputs[-1].text.splitlines()[-1])
    pictures = [output for cell in made.cells for output in cell.get("outputs", ()) if "data" in output]
    assert len([picture for picture in pictures if "image/png" in picture["data"]]) == 2
    assert figures["known"] == 0
    assert figures["chosen"][1] == min(wer for _, wer in figures["val"])
    assert figures["test"]["beam_lm"] < 0.5 * figures["test"]["argmax"]
    assert figures["test"]["beam_lm"] <= figures["test"]["lexicon"] <= figures["test"]["beam"]
    # The comparison for real speech, on the checkpoint that there is.
    assert figures["real"]["beam_lm"] < 0.5 * figures["real"]["argmax"]
