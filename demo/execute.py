"""Run the notebooks of this folder and store them with what they show: ``python -m demo.execute [NAME ...]``."""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LARGEST = 300_000  # bytes


def execute(path: Path, folder: Path, timeout: int = 1800) -> Any:
    """The notebook with the outputs of a run in `folder`, which need not be the notebook's own.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(notebook, timeout=timeout, kernel_name="python3", resources=resources)
    client.execute(env={**os.environ, "HW_ROOT": str(ROOT)})
    clean(notebook, {str(folder): ".", str(ROOT): ".", str(Path.home()): "~"})
    return notebook


def clean(notebook: Any, places: dict[str, str]) -> None:
    """Join each cell's printed lines, and take out what differs from machine to machine."""
    notebook.metadata = {"language_info": {"name": "python"}, "kernelspec": notebook.metadata["kernelspec"]}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type != "code":
            continue
        kept: list[Any] = []
        for output in cell.outputs:
            if output.output_type == "stream":
                for place, name in places.items():
                    output.text = output.text.replace(place, name)
                output.name = "stdout"
                if kept and kept[-1].output_type == "stream":
                    kept[-1].text += output.text
                    continue
            kept.append(output)
        cell.outputs = kept


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    import nbformat

    names = list(sys.argv[1:] if argv is None else argv) or sorted(path.stem for path in HERE.glob("*.ipynb"))
    for name in names:
        path = HERE / f"{name}.ipynb"
        if not path.exists():
            print(f"error: no notebook {path.name} in {HERE.name}/", file=sys.stderr)
            return 2
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        text = nbformat.writes(notebook)
        if len(text) > LARGEST:
            print(f"error: {path.name} would have {len(text)} bytes, more than {LARGEST}", file=sys.stderr)
            return 2
        path.write_text(text + "\n", encoding="utf-8")
        print(f"{path.name}: {len(text) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
