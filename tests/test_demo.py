"""The notebooks of ``demo/`` run from top to bottom."""

import json

import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / "demo" / "beam_search.ipynb"
FIGURES = """
import json
real = compare(CHECKPOINT, 40)
print(json.dumps({"test": {name: point.wer for name, point in figures.items()}, "sizes": SIZES, "known": known,
                  "chosen": [chosen.lm_weight, chosen.wer], "val": [[p.lm_weight, p.wer] for p in points],
                  "real": real}))
"""


def test_the_notebook_is_small_and_holds_no_output():
    assert NOTEBOOK.stat().st_size < 300_000
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
def test_the_beam_search_notebook_runs_and_the_language_model_lowers_the_word_error_rate():
    """With the checkpoint of the environment variable HW_CHECKPOINT, else as in a new clone."""
    for package in ("ipykernel", "matplotlib", "numba"):
        pytest.importorskip(package, reason="the notebook needs it")
    nbclient = pytest.importorskip("nbclient", reason="runs the notebook")
    nbformat = pytest.importorskip("nbformat", reason="reads the notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(FIGURES))
    client = nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    )
    client.execute()
    printed = "".join(output.text for output in notebook.cells[-1].outputs if output.get("name") == "stdout")
    figures = json.loads(printed.splitlines()[-1])
    pictures = [output for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    assert len([picture for picture in pictures if "image/png" in picture["data"]]) == 2
    assert figures["known"] == 0
    assert figures["chosen"][1] == min(wer for _, wer in figures["val"])
    assert figures["test"]["beam_lm"] < 0.5 * figures["test"]["argmax"]
    assert figures["test"]["beam_lm"] <= figures["test"]["lexicon"] <= figures["test"]["beam"]
    # The comparison for real speech, on the checkpoint that there is.
    assert figures["real"]["beam_lm"] < 0.5 * figures["real"]["argmax"]
