"""Utterances cut at pauses between words."""

import json
import subprocess
import sys

import pytest
import torch

from hw_asr.segment import main, segments
from hw_base.audio import io as audio
from hw_base.audio.silence import pauses
from hw_base.datasets.manifest import Manifest
from tests.conftest import ROOT

RATE = 16000


def spoken(stretches, noise=0.0):
    """Tones and silences in turn, of so many seconds each."""
    generator = torch.Generator().manual_seed(0)
    parts = [
        0.3 * torch.sin(torch.arange(round(seconds * RATE)) * 0.1) * (i % 2 == 0) for i, seconds in enumerate(stretches)
    ]
    waveform = torch.cat(parts)
    return waveform + noise * torch.randn(len(waveform), generator=generator)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_pauses_are_found_in_quiet_and_in_noise(noise):
    found = pauses(spoken([1.0, 0.3, 1.0, 0.06, 1.0, 0.5, 0.4], noise), RATE, 0.1)
    # A window of 20 ms that still holds some of the tone is loud.
    assert torch.tensor(found) == pytest.approx(torch.tensor([[1.0, 1.3], [3.36, 3.86]]), abs=0.0151)


def test_cuts_lie_in_the_middle_of_pauses_and_leave_no_short_segment():
    gaps = [(0.9, 1.0), (2.0, 2.1), (3.0, 3.1), (4.2, 4.25), (5.6, 5.7)]
    quiet = [(0.8, 1.0), (1.95, 2.15), (4.3, 4.5), (4.15, 4.25), (5.5, 5.8)]
    found = list(segments(gaps, quiet, 6.6, 2.0))
    # 0.9 s is too early, near 3.0 s there is no pause, of two near 4.2 s the longer counts, 5.65 s is too late.
    assert [(first, last) for _, _, first, last in found] == [(0, 2), (2, 4), (4, 6)]
    assert [place for place, *_ in found] == pytest.approx([0.0, 2.05, 4.4])
    assert [place for _, place, *_ in found] == pytest.approx([2.05, 4.4, 6.6])


@pytest.fixture
def corpus(tmp_path):
    """Three utterances of two words, a pause between them, and their alignments by characters."""
    (tmp_path / "transcriptions").mkdir()
    (tmp_path / "alignments").mkdir()
    for name in ("a", "b", "c"):
        audio.save(tmp_path / "audio" / f"{name}.wav", spoken([1.0, 0.4, 1.2]), RATE)
        (tmp_path / "transcriptions" / f"{name}.txt").write_text("YES NO")
        phones = [["y", 0.0, 0.5], ["s", 0.5, 1.05], [" ", 1.05, 1.2], ["n", 1.2, 2.0], ["o", 2.0, 2.6]]
        (tmp_path / "alignments" / f"{name}.json").write_text(json.dumps(phones))
    config = {
        "task": "asr",
        "name": "segments",
        "data": {"train": {"datasets": [{"type": "CustomDir", "args": {"root": str(tmp_path)}}]}},
        "model": "DeepSpeech2",
        "optimizers": {"model": {"type": "AdamW"}},
        "trainer": {"max_steps": 1},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def arguments(corpus, *more):
    folders = ["-a", str(corpus / "alignments"), "-o", str(corpus / "segments")]
    return ["-c", str(corpus / "config.json"), *folders, *more]


def test_the_manifest_holds_all_words_and_all_samples(corpus):
    command = [sys.executable, "-m", "hw_asr.segment", *arguments(corpus, "--min-seconds", "0.5")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "3 of 3 utterances: 6 segments in " in done.stderr
    dataset = Manifest(str(corpus / "segments" / "manifest.jsonl"))
    assert [record.text for record in dataset.records] == ["YES", "NO"] * 3
    first, second = (dataset.read(record)[0] for record in dataset.records[:2])
    whole = audio.load(corpus / "audio" / "a.wav")[0]
    assert torch.equal(torch.cat([first, second]), whole)
    assert len(first) / RATE == pytest.approx(1.2, abs=0.01)


def test_utterances_without_a_fitting_alignment_are_left_out_and_counted(corpus, capsys):
    (corpus / "alignments" / "a.json").unlink()
    (corpus / "alignments" / "b.json").write_text('[["yes", 0.0, 1.2], ["no", 1.2, 2.6]]')
    assert main(arguments(corpus)) == 0
    said = "".join(capsys.readouterr())
    assert "1 of 3 utterances are left out: they have no alignment" in said
    assert "1 of 3 utterances are left out: the spaces of their alignments are not those of their texts" in said
    assert "1 of 3 utterances: 1 segments in " in said
    (corpus / "alignments" / "c.json").write_text('{"c": 1}')
    assert main(arguments(corpus)) == 2
    assert "c.json: utterance 'c': alignment: expected [[symbol, start, end], ...]" in capsys.readouterr().err
    (corpus / "alignments" / "c.json").unlink()
    (corpus / "alignments" / "b.json").unlink()
    assert main(arguments(corpus)) == 2
    assert (
        "none of 3 utterances can be cut: they have no alignment; align them by characters first"
        in capsys.readouterr().err
    )
    assert main(arguments(corpus, "--split", "vall")) == 2
    assert "--split vall: " in capsys.readouterr().err
