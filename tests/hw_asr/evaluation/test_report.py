"""The claims that a report of the course has to support, each from runs that support or contradict it."""

from pathlib import Path

import pytest

from hw_asr.evaluation.report import ASRReport
from hw_base.reports.blocks import Paragraph, Table
from hw_base.reports.contract import Page
from hw_base.reports.language import Language
from hw_base.reports.media import MediaStore
from hw_base.reports.record import Output, Run

DECODERS = {
    "argmax": {"type": "Greedy", "args": {}},
    "beam": {"type": "BeamSearch", "args": {}},
    "lm": {"type": "BeamSearch", "args": {"lm": "words.arpa"}},
}
# Of forty utterances of three words, so many are recognized with a wrong word.
CHARACTERS, BPE = {"argmax": 30, "beam": 20, "lm": 5}, {"argmax": 12, "beam": 12, "lm": 12}


def run(name, text_encoder, wrong):
    rows = []
    for i in range(40):
        texts = {f"pred_text_{key}": "one two six" if i < n else "one two three" for key, n in wrong.items()}
        rows.append({"id": f"u{i}", "split": "test", "ground_truth": "one two three", **texts})
    config = {"text_encoder": text_encoder, "decoders": {key: DECODERS[key] for key in wrong}}
    return Run(Path(name), name, config, [], [Output(Path(name, "output.json"), rows, {})])


def sections(*runs):
    found = ASRReport().sections(runs, Page(MediaStore(0), Language()))
    return {section.title: section.blocks for section in found}


def told(blocks):
    return [block.text for block in blocks if isinstance(block, Paragraph)]


@pytest.fixture(scope="module")
def shown():
    return sections(run("chars", "CharTextEncoder", CHARACTERS), run("pieces", "SentencePieceEncoder", BPE))


def test_a_beam_search_is_compared_with_the_greedy_decoder_of_its_run(shown):
    better, same = told(shown["Beam search against argmax"])
    assert "chars (beam) has the lower WER: 16.67 % against 25.00 % of chars (argmax)" in better
    assert "pieces (argmax) and pieces (beam) have the same WER" in same


def test_a_language_model_is_compared_with_the_same_search_without_one(shown):
    better, same = told(shown["A language model against none"])
    assert "chars (lm) has the lower WER: 4.17 % against 16.67 % of chars (beam)" in better
    assert "(p < 0.001): it is almost certainly real" in better
    assert "pieces (beam) and pieces (lm) have the same WER" in same


def test_pieces_of_words_are_compared_with_characters_decoder_by_decoder(shown):
    argmax, _, lm = told(shown["BPE against characters"])
    assert "pieces (argmax) has the lower WER: 10.00 % against 25.00 % of chars (argmax)" in argmax
    assert "chars (lm) has the lower WER" in lm
    (table,) = [block for block in shown["BPE against characters"] if isinstance(block, Table)]
    assert [row[:4] for row in table.rows if row[1] == "WER"] == [
        ["test", "WER", f"chars ({name})", f"pieces ({name})"] for name in DECODERS
    ]


def test_a_proof_without_evidence_says_how_to_get_it():
    shown = sections(run("a", "CharTextEncoder", {"argmax": 3}))
    assert "with a beam search" in told(shown["Beam search against argmax"])[0]
    assert "its key lm" in told(shown["A language model against none"])[0]
    assert "Give two runs that differ in text_encoder" in told(shown["BPE against characters"])[0]
