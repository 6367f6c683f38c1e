"""Which systems a report finds in the outputs of a run."""

from pathlib import Path

import pytest

from hw_asr.evaluation.systems import systems_of
from hw_base.reports.record import Output, Run


def run_with(rows, decoders, about=None):
    output = Output(Path("run/output.json"), [{"id": "a", "split": "test", **row} for row in rows], about or {})
    return Run(Path("run"), "run", {"task": "asr", "decoders": decoders}, [], [output])


def names(run):
    return [system.decoder for system in systems_of(run)]


ROW = {"ground_truth": "one two", "pred_text": "one two", "pred_text_argmax": "one", "pred_text_beam_search": []}


def test_what_repeats_a_decoder_under_another_name_is_left_out():
    row = {**ROW, "pred_text_beam_search": [["one two", -1.0]], "pred_text_lm": "one two"}
    assert names(run_with([row], {"argmax": "Greedy", "lm": "BeamSearch"})) == ["argmax", "lm"]


def test_decoders_that_agree_are_both_there():
    row = {**ROW, "pred_text_beam": "one"}
    assert names(run_with([row], {"argmax": "Greedy", "beam": "BeamSearch"})) == ["argmax", "beam"]


def test_outputs_of_older_templates_need_no_config():
    assert names(run_with([{"ground_trurh": "one", "pred_text_argmax": "one"}], None)) == ["argmax"]


@pytest.mark.parametrize("text", [None, ["a"], 3])
def test_utterances_without_a_reference_are_left_out(text):
    assert names(run_with([{**ROW, "ground_truth": text}], {"argmax": "Greedy"})) == []


def test_the_output_says_which_decoder_has_a_language_model():
    decoders = {"lm": {"type": "BeamSearch", "args": {"lm": "words.arpa"}}, "argmax": {"type": "Greedy", "args": {}}}
    row = {**ROW, "pred_text_lm": "one two"}
    greedy, with_lm = systems_of(run_with([row], {"argmax": "Greedy"}, {"decoders": decoders}))
    assert (greedy.is_greedy(), greedy.has_lm()) == (True, False)
    assert (with_lm.is_greedy(), with_lm.has_lm()) == (False, True)
    assert with_lm.score.wer.corpus == 0.0
    assert greedy.score.wer.corpus == 0.5
