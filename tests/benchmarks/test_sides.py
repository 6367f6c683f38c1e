"""How sides are measured, and that small benchmarks leave their rows; nothing is timed here."""

import json
import sys

import pytest
import soundfile
import torch

from benchmarks import alignment, controls, decoding_memory, long_audio, measuring, pitch, vits2_step


def test_every_side_has_one_thread_and_the_same_seed_after_one_call_that_warms_up():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    seen = []

    def work():
        seen.append((torch.get_num_threads(), float(torch.rand(()))))
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}

    best = measuring.compare({"ours": work, "peer": work}, repeats=2)
    assert set(best) == {"ours", "peer"}
    assert len(seen) == 2 * 3
    assert len(set(seen)) == 1


def test_a_ratio_is_the_cost_of_the_peer_divided_by_ours():
    row = measuring.against("a search", "a loop", "path", 0.03, 0.01, "the same path")
    assert (row.ratio, row.note) == (pytest.approx(3.0), "30.00 : 10.00 ms; the same path")


def test_the_search_is_measured_beside_the_loop_in_c_and_finds_the_same_path(tmp_path):
    loop = alignment.compile_loop(tmp_path)
    if loop is None:
        pytest.skip("no C compiler")
    rows = alignment.measure((3, 20, 6), loop, repeats=1)
    assert [(row.peer, row.kind) for row in rows] == [
        (alignment.PEER, "path"),
        (alignment.PEER, "path : durations"),
        ("our engine in tensors", "path"),
    ]
    assert all(row.ratio > 0 for row in rows)
    with pytest.raises(AssertionError, match="the paths differ"):
        alignment.measure((3, 20, 6), lambda *given: loop(*given).roll(1, 2), repeats=1)


def test_without_a_compiler_the_row_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(alignment.shutil, "which", lambda name: None)
    assert alignment.compile_loop(tmp_path) is None
    (row,) = alignment.measure((2, 9, 4), None, repeats=1)
    assert row.ratio is None
    assert row.note.startswith("no C compiler; ours ")


def test_pitch_is_measured_of_the_corpora_that_are_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pitch"])
    folder = tmp_path / "VCTK" / "p1"
    folder.mkdir(parents=True)
    phase = 2 * torch.pi * 150 * torch.arange(pitch.RATE // 2) / pitch.RATE
    soundfile.write(folder / "a.flac", sum(torch.sin(k * phase) / (3 * k) for k in range(1, 9)).numpy(), pitch.RATE)
    output = tmp_path / "pitch.json"
    assert pitch.main([str(tmp_path), "--repeats", "1", "-o", str(output)]) == 0
    rows = json.loads(output.read_text())["rows"]
    assert [row["peer"] for row in rows] == ["dio", "harvest"]
    assert all(row["work"].endswith(" s of VCTK") for row in rows)
    assert "| all | yin, dio | 0.00 % |" in capsys.readouterr().out


def test_the_first_step_of_each_side_is_what_its_loss_is_taken_from():
    steps = iter(range(10))
    seconds, first = vits2_step.fastest({"ours": lambda: next(steps)}, repeats=2)
    assert (set(seconds), first) == ({"ours"}, {"ours": 0})


@pytest.mark.parametrize(("program", "extra"), [(pitch, []), (long_audio, ["--audio"])])
def test_a_folder_without_recordings_is_one_line(program, extra, tmp_path, capsys):
    config = ["configs/tiny/ds2.json"] if program is long_audio else []
    assert program.main([*config, *extra, str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: has no ")


def test_what_is_not_there_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(decoding_memory, "COUNTS", tmp_path / "counts.txt")
    assert decoding_memory.main([]) == 2
    assert controls.main([str(tmp_path / "none.pth")]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"error: {tmp_path}/counts.txt: the counts of LibriSpeech's words are not there"
    assert second == f"error: {tmp_path}/none.pth: no such file"
