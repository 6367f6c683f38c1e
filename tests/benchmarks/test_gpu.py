"""The benchmark of one GPU runs whole on a CPU, with the smallest models."""

import json

import pytest

from benchmarks import gpu


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_part_runs_and_leaves_its_row(tmp_path):
    assert gpu.main(["--toy", "-o", str(tmp_path / "gpu.json")]) == 0
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    names = [row["work"] for row in rows]
    for recipe in gpu.RECIPES:
        assert any(name.startswith(recipe.name) for name in names)
    assert sum(name.startswith("decoding") for name in names) == 2
    assert {row["kind"] for row in rows} >= {"bf16", "bf16, compiled"}
    assert all("data_wait" in row["note"] for row in rows if not row["work"].startswith("decoding"))


def test_a_part_that_there_is_no_time_for_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "make_recordings", lambda *given: tmp_path)
    arguments = gpu.argparse.Namespace(toy=False, minutes=0.0, repeats=1)
    rows = gpu.run(tmp_path, gpu.torch.device("cpu"), arguments)
    assert len(rows) == len(gpu.RECIPES) + 1
    assert all(row.ratio is None and "left out: " in row.note for row in rows)
    assert gpu.main([]) == 2
