import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_asr.metrics import CER, WER
from hw_base.registry import METRICS

text = st.text(alphabet="ab '", max_size=12).filter(str.strip)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(text, st.text(alphabet="ab '", max_size=12)), min_size=1, max_size=4))
def test_rates_equal_jiwer(pairs):
    """jiwer's CER counts every space within a text; our normalizers make a stretch of white space one space first."""
    references, hypotheses = ([" ".join(one.split()) for one in column] for column in zip(*pairs, strict=True))
    wer, cer = WER(), CER()
    for reference, hypothesis in pairs:
        wer.update([reference], [hypothesis])
        cer.update([reference], [hypothesis])
    assert wer.compute() == pytest.approx(jiwer.wer(references, hypotheses), abs=1e-12)
    assert cer.compute() == pytest.approx(jiwer.cer(references, hypotheses), abs=1e-12)


def test_fixtures():
    wer, cer = WER(), CER()
    for metric in (wer, cer):
        metric.update(["the cat sat", "hi"], ["the bat", "hi hi hi"])
    assert wer.details() == {"substitutions": 1, "deletions": 1, "insertions": 2, "references": 4, "correct": 2}
    assert wer.compute() == 1.0
    assert cer.details() == {"substitutions": 1, "deletions": 4, "insertions": 6, "references": 13, "correct": 8}
    assert cer.compute() == pytest.approx(11 / 13)
    wer.update(["a"], ["b c d e"])
    assert wer.compute() == pytest.approx(8 / 5)


@pytest.mark.parametrize("normalizer", ["none", "lower", "letters"])
def test_a_stretch_of_white_space_is_one_character(normalizer):
    cer, wer = CER(normalizer), WER(normalizer)
    for metric in (cer, wer):
        metric.update(["a"], ["a \t a"])
    assert cer.compute() == jiwer.cer("a", "a a") == 2.0
    assert wer.compute() == jiwer.wer("a", "a  a") == 1.0


def test_a_blank_reference_counts_insertions_and_white_space_around_does_not_count():
    cer = CER()
    cer.update(["ab", " "], [" ab ", "xyz"])
    assert cer.compute() == 1.5


def test_the_names_of_configs():
    assert METRICS["WER"] is WER
    assert METRICS["CER"] is CER
