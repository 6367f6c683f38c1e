"""The scorer: rates against another library, alignments against brute force, hostile input."""

import itertools
import json
import os
import random
import re

import numpy as np
import pytest

from hw_asr import score
from hw_asr.evaluation import course, scoring
from hw_base.metrics import Edits, count_edits

WORDS = ("a", "an", "the", "cat", "cats", "sat", "on", "mat", "ёж")


def write(folder, texts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
    return folder


def run(capsys, *arguments):
    code = score.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def report(tmp_path, capsys, *arguments):
    code, _, error = run(capsys, *arguments, "--json", tmp_path / "report.json")
    assert code == 0, error
    return json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))


def random_corpus(seed, count):
    generator = random.Random(seed)
    references, hypotheses = {}, {}
    for number in range(count):
        words = generator.choices(WORDS, k=generator.randint(1, 8))
        heard = [word for word in words if generator.random() > 0.2]
        heard = [generator.choice(WORDS) if generator.random() < 0.2 else word for word in heard]
        references[f"u{number}"] = " ".join(words)
        hypotheses[f"u{number}"] = " ".join(heard)
    return references, hypotheses


# ---------------------------------------------------------------------- figures


def test_rates_are_those_of_jiwer(tmp_path, capsys):
    jiwer = pytest.importorskip("jiwer", reason="jiwer is the oracle")
    references, hypotheses = random_corpus(0, 60)
    figures = report(tmp_path, capsys, write(tmp_path / "r", references), write(tmp_path / "h", hypotheses))
    ids = sorted(references)
    left, right = [references[i] for i in ids], [hypotheses[i] for i in ids]
    for name, oracle in (("wer", jiwer.process_words(left, right)), ("cer", jiwer.process_characters(left, right))):
        ours = figures[name]
        assert ours["corpus"] == pytest.approx(getattr(oracle, name), abs=1e-12)
        wrong = ours["substitutions"] + ours["deletions"] + ours["insertions"]
        assert wrong == oracle.substitutions + oracle.deletions + oracle.insertions
        assert ours["deletions"] - ours["insertions"] == oracle.deletions - oracle.insertions
        assert ours["references"] == sum(map(len, oracle.references))
    means = [jiwer.wer(reference, hypothesis) for reference, hypothesis in zip(left, right, strict=True)]
    assert figures["wer"]["utterance_mean"] == pytest.approx(np.mean(means), abs=1e-12)
    assert [row["wer"] for row in figures["utterances"]] == pytest.approx(means, abs=1e-12)


def test_figures_by_hand(tmp_path, capsys):
    references = write(tmp_path / "r", {"one": "the cat sat on the mat", "two": "yes"})
    hypotheses = write(tmp_path / "h", {"one": "a cat sat the the mat", "two": "oh yes"})
    figures = report(tmp_path, capsys, references, hypotheses)
    assert figures["n_utterances"] == 2
    expected = {"corpus": 3 / 7, "utterance_mean": (2 / 6 + 1) / 2, "references": 7, "correct": 5}
    assert {key: figures["wer"][key] for key in expected} == pytest.approx(expected)
    counts = {key: figures["wer"][key] for key in ("substitutions", "deletions", "insertions")}
    assert counts == {"substitutions": 2, "deletions": 0, "insertions": 1}
    assert figures["worst"] == ["one", "two"]


@pytest.mark.parametrize(
    ("kind", "reference", "hypothesis", "rate"),
    [
        ("none", "A  b\n c", " A b c", 0.0),
        ("none", "A b", "a b", 0.5),
        ("lower", "CAFE\N{COMBINING ACUTE ACCENT} B", "café b", 0.0),
        ("lower", "yes, b", "yes b", 0.5),
        ("letters", "It\N{RIGHT SINGLE QUOTATION MARK}s -- two_words!", "it's two words", 0.0),
    ],
)
def test_normalization_is_what_was_asked(tmp_path, capsys, kind, reference, hypothesis, rate):
    folders = write(tmp_path / "r", {"a": reference}), write(tmp_path / "h", {"a": hypothesis})
    assert report(tmp_path, capsys, *folders, "--normalise", kind)["wer"]["corpus"] == rate


def test_missing_ones_count_as_empty_and_extra_ones_do_not_count(tmp_path, capsys):
    references = write(tmp_path / "r", {"a": "one two", "b": "three"})
    hypotheses = write(tmp_path / "h", {"a": "one two", "z": "four five six"})
    figures = report(tmp_path, capsys, references, hypotheses)
    assert (figures["missing"], figures["extra"]) == (["b"], ["z"])
    assert figures["wer"]["corpus"] == pytest.approx(1 / 3)
    assert figures["wer"]["deletions"] == 1
    _, text, _ = run(capsys, references, hypotheses)
    assert "1 reference(s) without a hypothesis, which counts as empty: b" in text
    assert "1 hypothesis(es) without a reference, not counted: z" in text


def test_empty_references_and_empty_hypotheses(tmp_path, capsys):
    references = write(tmp_path / "r", {"a": "", "b": "one two", "c": ""})
    hypotheses = write(tmp_path / "h", {"a": "noise", "b": "", "c": " "})
    figures = report(tmp_path, capsys, references, hypotheses)
    assert figures["wer"]["corpus"] == pytest.approx(3 / 2)
    assert [row["wer"] for row in figures["utterances"]] == [1.0, 1.0, 0.0]
    only_empty = write(tmp_path / "e", {"a": "", "c": ""})
    assert report(tmp_path, capsys, only_empty, hypotheses)["wer"]["corpus"] == 1.0


def test_interval_has_the_width_that_statistics_gives():
    """Equally long utterances with independent errors: a normal interval around the rate."""
    generator = np.random.default_rng(3)
    wrong = generator.binomial(10, 0.2, size=2000)
    edits = [Edits(int(count), 0, 0, 10) for count in wrong]
    low, high = scoring.bootstrap_interval(edits)
    rates = wrong / 10
    error = 1.96 * rates.std() / np.sqrt(len(rates))
    assert low == pytest.approx(rates.mean() - error, abs=0.1 * error)
    assert high == pytest.approx(rates.mean() + error, abs=0.1 * error)
    assert (low, high) == scoring.bootstrap_interval(edits)
    assert (low, high) != scoring.bootstrap_interval(edits, seed=1)


# ---------------------------------------------------------------------- alignment


def all_alignments(reference, hypothesis):
    if not reference and not hypothesis:
        yield []
    if reference and hypothesis:
        for rest in all_alignments(reference[1:], hypothesis[1:]):
            yield [(reference[0], hypothesis[0]), *rest]
    if reference:
        for rest in all_alignments(reference[1:], hypothesis):
            yield [(reference[0], None), *rest]
    if hypothesis:
        for rest in all_alignments(reference, hypothesis[1:]):
            yield [(None, hypothesis[0]), *rest]


def cost(pairs):
    wrong = [pair for pair in pairs if pair[0] != pair[1]]
    return len(wrong), sum(None not in pair for pair in wrong)


def test_alignments_are_the_cheapest_there_are():
    for rows, columns in itertools.product(range(4), range(4)):
        for left in itertools.product("ab", repeat=rows):
            for right in itertools.product("abc", repeat=columns):
                pairs = scoring.align(left, right)
                assert [a for a, _ in pairs if a is not None] == list(left)
                assert [b for _, b in pairs if b is not None] == list(right)
                best = min(map(cost, all_alignments(left, right)))
                edits = count_edits(left, right)
                assert cost(pairs) == best == (edits.distance, edits.substitutions)


def test_alignment_is_shown_word_below_word(tmp_path, capsys):
    references = write(tmp_path / "r", {"good": "yes", "bad": "the cat sat on mats"})
    hypotheses = write(tmp_path / "h", {"good": "yes", "bad": "a cat oh sat mat"})
    _, text, _ = run(capsys, references, hypotheses)
    assert text.split("\n\n")[-1].splitlines() == [
        "bad: WER 80.0 (2 substitutions, 1 deletion, 1 insertion)",
        "  said: the cat ** sat on mats",
        "  read: a   cat oh sat ** mat",
        "        S       I      D  S",
    ]
    _, text, _ = run(capsys, references, hypotheses, "--worst", 0)
    assert "said" not in text


def test_long_utterances_are_shown_in_blocks_that_fit(tmp_path, capsys):
    references = write(tmp_path / "r", {"long": " ".join(["word"] * 100)})
    hypotheses = write(tmp_path / "h", {"long": " ".join(["world"] * 100)})
    _, text, _ = run(capsys, references, hypotheses)
    said = [line for line in text.splitlines() if line.startswith("  said: ")]
    assert len(said) == 6
    assert sum(line.count("word") for line in said) == 100
    assert max(map(len, said)) <= 120
    assert scoring.align(["a"] * 3000, ["b"] * 3000) is None


# ---------------------------------------------------------------------- output.json


def output(path, rows):
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


ROWS = [
    {
        "id": "a",
        "ground_truth": "one two",
        "pred_text_argmax": "one",
        "pred_text_beam_search": [["one two", -1.0], ["x", -2]],
    },
    {"id": "b", "ground_trurh": "three", "pred_text_argmax": "tree", "pred_text_beam_search": []},
    {"id": "c", "ground_truth": None, "pred_text_argmax": "noise", "pred_text_beam_search": [["noise", 0]]},
]


def test_one_output_file_holds_both_sides(tmp_path, capsys):
    path = output(tmp_path / "output.json", ROWS)
    figures = report(tmp_path, capsys, path)
    assert figures["decoder"] == "beam_search"
    assert [(row["reference"], row["hypothesis"]) for row in figures["utterances"]] == [
        ("one two", "one two"),
        ("three", ""),
    ]
    assert figures["missing"] == figures["extra"] == []
    argmax = report(tmp_path, capsys, path, "--decoder", "argmax")
    assert [row["hypothesis"] for row in argmax["utterances"]] == ["one", "tree"]


def test_argmax_is_taken_where_nothing_was_searched(tmp_path, capsys):
    rows = [{"id": "a", "ground_truth": "one", "pred_text_argmax": "", "pred_text_beam_search": []}]
    figures = report(tmp_path, capsys, output(tmp_path / "output.json", rows))
    assert (figures["decoder"], figures["wer"]["deletions"]) == ("argmax", 1)


def test_a_folder_and_an_output_file_can_be_mixed(tmp_path, capsys):
    path = output(tmp_path / "output.json", ROWS)
    folder = write(tmp_path / "r", {"a": "one two", "b": "three"})
    assert report(tmp_path, capsys, folder, path)["extra"] == ["c"]
    assert report(tmp_path, capsys, path, folder)["wer"]["corpus"] == 0.0


def test_other_files_in_a_folder_are_not_looked_at(tmp_path, capsys):
    folder = write(tmp_path / "r", {"a.b": "one", ".hidden": "x"})
    (folder / "notes.md").write_text("x")
    (folder / "sub.txt").mkdir()
    os.mkfifo(folder / "pipe.txt")
    (folder / "bom.txt").write_bytes(b"\xef\xbb\xbfone")
    figures = report(tmp_path, capsys, folder, folder)
    assert [row["id"] for row in figures["utterances"]] == ["a.b", "bom"]
    assert figures["utterances"][1]["reference"] == "one"


# ---------------------------------------------------------------------- bad input


def bad_inputs():
    def folder(tmp_path):
        return write(tmp_path / "good", {"a": "one"})

    def raw(name, content):
        def make(tmp_path):
            (tmp_path / name).write_bytes(content)
            return [tmp_path / name]

        return make

    def twice(tmp_path):
        (folder(tmp_path) / "a.TXT").write_text("two")
        return [tmp_path / "good", tmp_path / "good"]

    def latin(tmp_path):
        (folder(tmp_path) / "b.txt").write_bytes(b"caf\xe9")
        return [tmp_path / "good", tmp_path / "good"]

    def long(tmp_path):
        return [folder(tmp_path), write(tmp_path / "long", {"a": "x" * 100_000})]

    def empty(tmp_path):
        (tmp_path / "empty").mkdir()
        return [tmp_path / "empty", folder(tmp_path)]

    def rows(*rows):
        return lambda tmp_path: [output(tmp_path / "output.json", list(rows))]

    good = {"id": "a", "ground_truth": "one", "pred_text_argmax": "one"}
    return [
        (
            lambda tmp_path: [tmp_path / "nowhere", folder(tmp_path)],
            "nowhere: cannot be read: No such file or directory",
        ),
        (lambda tmp_path: [folder(tmp_path)], "needs a second argument"),
        (lambda tmp_path: [folder(tmp_path), tmp_path / "good", "--decoder", "argmax"], "this is a folder"),
        (lambda tmp_path: [folder(tmp_path), tmp_path / "good", "--seed", -1], "must not be negative"),
        (
            lambda tmp_path: [folder(tmp_path), tmp_path / "good", "--json", tmp_path],
            "--json .*cannot be written: Is a dir",
        ),
        (empty, r"empty: no <id>.txt in this folder"),
        (twice, "two files for the utterance 'a'"),
        (latin, r"b.txt, line 1: cannot be read as UTF-8 \(.* at byte 3\)"),
        (long, "utterance 'a': 100001 characters, at most 100000"),
        (raw("o.json", b"{"), "o.json: not JSON"),
        (raw("o.json", b"[" * 200_000), "o.json: not JSON"),
        (raw("o.json", b"\xff\xfe"), "o.json: not JSON"),
        (raw("o.json", b"{}"), "expected a list"),
        (raw("o.json", b"[]"), "expected a list"),
        (rows(good, 3), "entry 1 must be an object with an 'id'"),
        (rows(good, good), "'a' appears twice"),
        (rows(good | {"ground_truth": 3}), "'a': ground_truth must be a text, found int"),
        (rows(good | {"ground_truth": None}), "no utterance has a 'ground_truth'"),
        (rows(good | {"pred_text_argmax": {"x": 1}}), "pred_text_argmax must be a text, found dict"),
        (rows(good | {"pred_text_beam_search": [3, 4]}), "pred_text_beam_search must be a text, found int"),
        (
            rows({"id": "a", "ground_truth": "one"}),
            "no utterance has 'pred_text_argmax'; decoders with predictions: none",
        ),
    ]


@pytest.mark.parametrize(("make", "message"), bad_inputs())
def test_bad_input_ends_with_one_line_and_code_2(tmp_path, capsys, make, message):
    code, out, error = run(capsys, *make(tmp_path))
    assert (code, out) == (2, "")
    assert error.count("\n") == 1
    assert re.search(message, error), error


def test_an_unknown_decoder_names_the_known_ones(tmp_path, capsys):
    code, _, error = run(capsys, output(tmp_path / "output.json", ROWS), "--decoder", "beam")
    assert code == 2
    assert "no utterance has 'pred_text_beam'; decoders with predictions: argmax, beam_search" in error


def test_predictions_cannot_steer_the_terminal(tmp_path, capsys):
    rows = [{"id": "a\x1b[2J", "ground_truth": "one", "pred_text_argmax": "\x1b]0;title\x07 \ud800 \u202e"}]
    code, text, _ = run(capsys, output(tmp_path / "output.json", rows), "--json", tmp_path / "report.json")
    assert code == 0
    assert not [symbol for symbol in text if not symbol.isprintable() and symbol != "\n"]
    json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))


# ---------------------------------------------------------------------- the course


@pytest.mark.parametrize(
    ("table", "split", "wer", "cer", "expected"),
    [
        ("ctc", "test-clean", 1.0, 1.0, 1.0),
        ("ctc", "test-clean", 1.0, 0.5, 2.0),
        ("ctc", "test-clean", 0.9, 0.2, 4.0),
        ("ctc", "test-clean", 0.4, 0.2, 5.0),
        ("ctc", "test-clean", 0.2001, 0.1, 6.0),
        ("ctc", "test-clean", 0.0, 0.0, 7.0),
        ("ctc", "test-other", 0.31, 0.1, 0.0),
        ("ctc", "test-other", 0.3, 0.1, 8.0),
        ("ctc", "test-other", 0.21, 0.1, 8.5),
        ("ctc", "test-other", 0.15, 0.1, 9.5),
        ("ctc", "test-other", 0.1, 0.1, 10.0),
        ("rnnt", "test-clean", 0.9, 0.2, 3.0),
        ("rnnt", "test-clean", 0.15, 0.05, 7.0),
        ("rnnt", "test-other", 0.12, 0.05, 9.5),
        ("rnnt", "test-other", 0.13, 0.05, 9.0),
    ],
)
def test_quality_score_of_the_course(table, split, wer, cer, expected):
    assert course.quality_score(table, split, wer, cer) == expected


def test_course_table_is_shown_and_reported(tmp_path, capsys):
    references = write(tmp_path / "r", {"a": "one two three four five six seven eight nine ten"})
    hypotheses = write(tmp_path / "h", {"a": "one two three four five six seven eight nine hen"})
    _, text, _ = run(capsys, references, hypotheses, "--course", "ctc")
    assert "\n  10.0  test-other  WER 10      reached\n" in text
    assert "if these are all utterances of test-clean: quality score 7\n" in text
    figures = report(tmp_path, capsys, references, hypotheses, "--course", "rnnt")
    assert figures["course"] == {"table": "rnnt", "test-clean": 7.0, "test-other": 9.5}
