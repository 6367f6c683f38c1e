import pytest
import torch

from hw_base.checkpoint import load, save
from hw_base.errors import CheckpointError, ConfigError, DataError
from hw_tts.text.base import BaseTextFrontEnd, intersperse


class Words(BaseTextFrontEnd):
    separator = " "

    def symbols(self, text):
        return text.split()


def test_ids_follow_the_table_and_zero_is_kept_free():
    words = Words(["b", "a"])
    assert len(words) == 3
    assert words.encode("a b a") == [2, 1, 2]
    assert words.decode([2, 1, 2]) == "a b a"


def test_a_blank_stands_between_and_around():
    words = Words(["a", "b"], add_blank=True)
    assert words.encode("a b") == [0, 1, 0, 2, 0]
    assert words.decode([0, 1, 0, 2, 0]) == "a b"
    assert intersperse([], 0) == [0]
    assert intersperse(["x"], None) == [None, "x", None]


def test_of_a_repeated_symbol_the_last_place_counts():
    words = Words(["a", "b", "a"])
    assert words.encode("a b") == [3, 2]
    assert words.decode([1, 3]) == "a a"


def test_unknown_symbols_are_left_out_and_listed_each_time():
    words = Words(["a"])
    assert words.encode("x a y x") == [1]
    assert words.unknown("x a y x") == ["x", "y", "x"]


def test_the_table_is_learned_in_an_order_that_does_not_depend_on_the_texts():
    one, two = Words(), Words()
    one.fit(["c a", "b"])
    two.fit_symbols([["b", "c"], ["a"]])
    assert one.table == two.table == ["a", "b", "c"]
    fixed = Words(["q"])
    fixed.fit(["a b"])
    assert fixed.table == ["q"]


def test_nothing_to_say_is_an_error():
    words = Words(["a"])
    with pytest.raises(DataError, match="nothing to say in the text '  '"):
        words.encode("  ")
    with pytest.raises(DataError, match=r"none of \['x'\] is in the table"):
        words.encode("x")
    with pytest.raises(DataError, match="no training text holds a symbol"):
        Words().fit([" "])
    with pytest.raises(ConfigError, match="neither learned nor loaded"):
        Words().encode("a")


def test_ids_without_a_symbol_are_refused():
    with pytest.raises(DataError, match=r"token ids \[2, -1\] are outside 0..1"):
        Words(["a"]).decode([1, 2, -1])


def test_the_state_survives_a_checkpoint(tmp_path):
    words = Words(add_blank=True)
    words.fit(["ʃ 'a: _"])
    save(tmp_path / "c.pth", {"text_encoder": words.state_dict(), "weights": torch.zeros(1)})
    other = Words()
    other.load_state_dict(load(tmp_path / "c.pth")["text_encoder"])
    assert other.encode("_ ʃ") == words.encode("_ ʃ")
    assert other.add_blank


@pytest.mark.parametrize("state", [{}, {"symbols": "ab", "add_blank": False}, {"symbols": ["a"]}])
def test_a_foreign_state_is_refused(state):
    with pytest.raises(CheckpointError, match="text front end's state"):
        Words().load_state_dict(state)
