"""The scorer on one long row, its first line, and its output when its reader has gone."""

import random
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.hw_asr.test_score import report, run, write


@pytest.mark.parametrize("length", [14_000, 98_000])
def test_one_row_of_many_characters_is_counted_exactly(tmp_path, capsys, length):
    """Symbols that the reference lacks cost one edit each; where lengths are equal, those are all substitutions."""
    words = ["".join(random.Random(i).choices("abcdefgh", k=6)) for i in range(length // 7)]
    heard = [word[:-1] + "z" if i % 50 == 0 else word for i, word in enumerate(words)]
    references = write(tmp_path / "r", {"book": " ".join(words)})
    figures = report(tmp_path, capsys, references, write(tmp_path / "h", {"book": " ".join(heard)}))
    wrong = len(range(0, len(words), 50))
    for name, units in (("wer", len(words)), ("cer", 7 * len(words) - 1)):
        expected = {"substitutions": wrong, "deletions": 0, "insertions": 0, "references": units}
        assert {key: figures[name][key] for key in expected} == expected


def test_the_first_line_says_whether_punctuation_counts(tmp_path, capsys):
    folders = write(tmp_path / "r", {"a": "Yes, b", "b": ""}), write(tmp_path / "h", {"a": "yes b", "b": ""})
    _, text, _ = run(capsys, *folders)
    assert text.splitlines()[0] == (
        "2 utterances (1 with words, 1 without), normalization 'lower'; punctuation counts "
        "(--normalize letters leaves it out); rates in percent"
    )
    _, text, _ = run(capsys, *folders, "--normalize", "letters")
    assert text.splitlines()[0].endswith("normalization 'letters'; rates in percent")


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    """``... | head``: more is written than a pipe holds, and its reader has gone."""
    references = write(tmp_path / "r", {str(i): "one " * 40 for i in range(300)})
    hypotheses = write(tmp_path / "h", {str(i): "two " * 40 for i in range(300)})
    command = [sys.executable, "-m", "hw_asr.score", str(references), str(hypotheses), "--worst", "300"]
    program = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "300 utterances" in program.stdout.readline()
    program.stdout.close()
    assert program.stderr.read() == ""
    assert program.wait() == 0
    program.stderr.close()
