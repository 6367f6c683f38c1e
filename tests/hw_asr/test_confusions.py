"""Which letters are confused with which others."""

import pytest
import torch

from hw_asr.confusions import NOTHING, Confusions
from hw_base.writers import plots


def test_matches_substitutions_deletions_and_insertions_are_counted():
    confusions = Confusions()
    confusions.update(["bad", "a", None, "ab"], ["bed", "a", "x", "abc"])
    assert confusions.counts == {
        ("b", "b"): 2,
        ("a", "e"): 1,
        ("d", "d"): 1,
        ("a", "a"): 2,
        (NOTHING, "c"): 1,
    }
    confusions.update(["d"], [""])
    assert confusions.counts["d", NOTHING] == 1


def test_errors_come_most_frequent_first_with_the_share_of_their_letter():
    confusions = Confusions()
    confusions.update(["aaaa", "b"], ["aaec", ""])
    confusions.update(["a"], ["e"])
    assert confusions.most_frequent() == [
        ("a", "e", 2, pytest.approx(0.4)),
        ("a", "c", 1, pytest.approx(0.2)),
        ("b", NOTHING, 1, 1.0),
    ]
    assert len(confusions.most_frequent(1)) == 1


def test_the_matrix_has_the_share_of_each_target_and_the_rare_letters_are_left_out():
    confusions = Confusions()
    confusions.update(["aab"], ["acb"])
    shares, rows, columns = confusions.matrix()
    assert rows == columns == ["a", "b", "c", NOTHING]
    assert shares.tolist() == [[0.5, 0, 0.5, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert confusions.matrix(1)[1] == ["a", NOTHING]


def test_the_matrix_keeps_the_most_frequent_letters_also_where_all_is_right():
    confusions = Confusions()
    confusions.update(["abb"], ["abb"])
    assert confusions.matrix(1)[1] == ["b", NOTHING]


def test_gathering_starts_anew():
    confusions = Confusions()
    confusions.update(["a"], ["b"])
    assert confusions.gathered().counts == {("a", "b"): 1}
    assert not confusions.counts


def test_the_picture_grows_with_the_letters_and_refuses_another_shape():
    pytest.importorskip("matplotlib", reason="pictures are drawn with matplotlib")
    small = plots.matrix_image(torch.eye(3), list("abc"), list("abc"))
    large = plots.matrix_image(torch.eye(6), list("abcdef"), list("abcdef"), "title", "rows", "columns")
    assert large.shape[0] > small.shape[0]
    assert large.shape[1] > small.shape[1]
    with pytest.raises(ValueError, match="2 rows"):
        plots.matrix_image(torch.eye(3), list("ab"), list("abc"))
