import json
import math
import os

import pytest
import torch

import test as test_script
import train as train_script
from hw_asr import train_lm
from hw_asr.decoders import BaseDecoder, GreedyDecoder, ReferenceBeamSearch
from hw_asr.evaluation import tuning
from hw_asr.evaluation.tuning import Point, Posteriors
from hw_asr.text_encoders.characters import CharTextEncoder
from hw_asr.tune_decoder import main
from hw_base import checkpoint
from hw_base.synthetic import sentences
from tests.conftest import ROOT

pytest.importorskip("matplotlib", reason="draws the surface")
jiwer = pytest.importorskip("jiwer", reason="counts the errors a second time")


def spoken(text, encoder, doubt=None, share=0.4):
    """Posteriors of a text, certain but for one place, where another character has a share of the probability."""
    frames = torch.full((2 * len(text) + 1, len(encoder)), 1e-9)
    frames[0::2, 0] = 1.0
    for i, token in enumerate(encoder.encode(text)):
        frames[2 * i + 1, token] = 1.0
    if doubt is not None:
        place, character = doubt
        frames[2 * place + 1] = 1e-9
        frames[2 * place + 1, encoder.encode(text[place])[0]] = 1 - share
        frames[2 * place + 1, encoder.encode(character)[0]] = share
    return (frames / frames.sum(1, keepdim=True)).log()


def posteriors_of(utterances):
    log_probs = [frames for frames, _ in utterances]
    lengths = torch.tensor([len(x) for x in log_probs])
    return Posteriors(torch.cat(log_probs), lengths, [text for _, text in utterances])


def test_the_search_finds_a_weight_that_mends_the_word_and_is_not_at_the_brink(tmp_path):
    """The acoustics prefer "cad" to "cat" by log(0.6 / 0.4), the language model the other way: the weight is known."""
    encoder = CharTextEncoder("abcdt")
    (tmp_path / "text").write_text("cat\n" * 20 + "cad\nbad\n")
    lm = str(tmp_path / "lm.arpa")
    assert train_lm.main(["--text", str(tmp_path / "text"), "--level", "char", "--order", "3", "-o", lm]) == 0
    liking = train_lm.open_ngram(lm).score("c a t") - train_lm.open_ngram(lm).score("c a d")
    needed = math.log(0.6 / 0.4) / liking
    posteriors = posteriors_of([(spoken("cad", encoder, (2, "t")), "cat"), (spoken("bad", encoder), "bad")])
    grid = [0.0, 0.5 * needed, 0.99 * needed, 1.01 * needed, 1.5 * needed, 2 * needed]

    def make(lm_weight, word_score):
        return ReferenceBeamSearch(encoder, lm=lm, lm_weight=lm_weight, word_score=word_score)

    points = list(tuning.search(make, posteriors, grid, [0.0, 0.1]))
    assert [(p.lm_weight, p.word_score) for p in points] == [(w, s) for w in grid for s in (0.0, 0.1)]
    assert [p.wer for p in points] == [0.5] * 6 + [0.0] * 6
    assert [p.cer for p in points] == pytest.approx([1 / 6] * 6 + [0.0] * 6)
    chosen = tuning.best(points)
    assert (chosen.lm_weight, chosen.word_score) == (grid[4], 0.0)


class Recorder(BaseDecoder):
    """Notes what it is given and answers greedily."""

    def __init__(self, text_encoder):
        super().__init__(text_encoder)
        self.given = []

    def __call__(self, log_probs, log_probs_length):
        self.given += [x[:n].clone() for x, n in zip(log_probs, log_probs_length.tolist(), strict=True)]
        return GreedyDecoder(self.text_encoder)(log_probs, log_probs_length)


def test_every_utterance_is_decoded_once_and_as_it_is():
    encoder = CharTextEncoder(" abcd")
    texts = [("a" * (i % 5 + 1) + " bad cab"[: i % 9]).strip() for i in range(2 * tuning.BATCH_SIZE + 3)]
    frames = [spoken(text, encoder) for text in texts]
    posteriors = posteriors_of(list(zip(frames, ["a bad cab"] * len(texts), strict=True)))
    recorder = Recorder(encoder)
    point = tuning.measure(recorder, posteriors, 0.25, 1.5)
    assert len(recorder.given) == len(frames)
    assert all(torch.equal(one, other) for one, other in zip(recorder.given, frames, strict=True))
    assert (point.lm_weight, point.word_score) == (0.25, 1.5)
    assert point.wer == pytest.approx(jiwer.wer(posteriors.texts, texts))
    assert point.cer == pytest.approx(jiwer.cer(posteriors.texts, texts))
    some = tuning.decode(GreedyDecoder(encoder), posteriors[5:9])
    assert [n_best[0].text for n_best in some] == texts[5:9]


def test_the_best_of_equal_points_has_the_smallest_weights():
    points = [Point(1.0, -1.0, 0.1, 0.05, 0.0), Point(0.5, -2.0, 0.1, 0.05, 0.0), Point(0.5, 1.0, 0.1, 0.05, 0.0)]
    assert tuning.best(points) == points[2]
    assert tuning.best([*points, Point(3.0, 0.0, 0.1, 0.04, 0.0)]).lm_weight == 3.0


def test_of_equal_points_the_middle_of_the_plateau_is_chosen():
    """Each of the three at 0.1 is as good on its own; only the neighbors of one are good as well."""
    rates = {0.0: 0.4, 0.5: 0.1, 1.0: 0.1, 1.5: 0.1, 2.0: 0.3}
    points = [Point(weight, score, wer, 0.05, 0.0) for weight, wer in rates.items() for score in (-1.0, 0.0)]
    assert tuning.best(points) == Point(1.0, 0.0, 0.1, 0.05, 0.0)
    assert tuning.best(points[::-1]) == tuning.best(points)


@pytest.mark.parametrize(
    ("rates", "greedy", "said"),
    [
        ((0.0, 0.0), 0.1, "val is recognized without a mistake by the acoustics alone"),
        ((0.2, 0.0), 0.0, "val is recognized without a mistake by the acoustics alone"),
        ((0.2, 0.2), 0.3, "the language model does not help on val: WER 0.2000 with it, 0.2000 without"),
        ((0.2, 0.25), 0.15, "the language model does not help on val: WER 0.2000 with it, 0.1500 without"),
        ((0.2, 0.1), 0.3, ""),
    ],
)
def test_a_language_model_that_brings_nothing_is_said_so(rates, greedy, said):
    points = [Point(float(weight), 0.0, wer, 0.05, 0.0) for weight, wer in enumerate(rates)]
    note = tuning.verdict(points, Point(0.0, 0.0, greedy, 0.05, 0.0), "val")
    assert note.startswith(said)
    assert bool(note) == bool(said)


def test_the_picture_shows_every_figure_and_frames_the_best():
    points = [Point(w, s, 0.1 + 0.01 * w + 0.001 * s, 0.0, 0.0) for w in (0.0, 0.5, 2.0) for s in (1.0, 2.0)]
    figure = tuning.draw(points, "costs $5 & $6")
    axes = figure.axes[0]
    shown = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert shown == {
        ((x, y), f"{10 + w + 0.1 * s:.1f}") for x, w in enumerate((0, 0.5, 2)) for y, s in enumerate((1, 2))
    }
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.5", "2"]
    assert axes.patches[0].get_xy() == (-0.5, -0.5)
    figure.canvas.draw()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    run = ["-c", str(ROOT / "configs" / "tiny" / "ds2.json"), "--run-dir", str(folder / "run"), "-d", "cpu"]
    assert train_script.main([*run, "--set", "trainer.max_steps=2"]) == 0
    (folder / "text").write_text("\n".join(sentences.draw("train", 100, seed=0)))
    lm = ["--text", str(folder / "text"), "--order", "2"]
    assert train_lm.main([*lm, "--level", "char", "-o", str(folder / "char.arpa")]) == 0
    return folder


def tune(trained, *arguments):
    best = str(trained / "run" / "model_best.pth")
    return main(["-r", best, "-d", "cpu", "-o", str(trained / "out"), *map(str, arguments)])


def with_lm(trained, kind="ReferenceBeamSearch", name="beam_lm"):
    return ["--set", f"decoders.{name}={{type: {kind}, args: {{lm: {trained / 'char.arpa'}, beam_size: 3}}}}"]


def test_the_command_tunes_and_test_reads_what_it_writes(trained, tmp_path, capsys):
    grid = ["--lm-weight", "0.5,0,2", "--word-score=-1,0"]
    assert tune(trained, *with_lm(trained), *grid) == 0
    printed = capsys.readouterr().out
    out = trained / "out"
    points = [Point(**point) for point in json.loads((out / "points.json").read_text())]
    assert [(p.lm_weight, p.word_score) for p in points] == [(w, s) for w in (0.0, 0.5, 2.0) for s in (-1.0, 0.0)]
    table = [line.split() for line in printed.splitlines() if line[:9].strip() in ("0", "0.5", "2")]
    assert table == [
        [f"{p.lm_weight:g}", f"{p.wer:.4f}", f"{q.wer:.4f}"] for p, q in zip(points[::2], points[1::2], strict=True)
    ]
    chosen = tuning.best(points)
    assert (chosen.wer, chosen.cer) == min((p.wer, p.cer) for p in points)
    assert f"best: lm_weight {chosen.lm_weight:g}, word_score {chosen.word_score:g}: WER {chosen.wer:.4f}" in printed
    assert (out / "surface.png").read_bytes().startswith(b"\x89PNG")

    fragment = json.loads((out / "decoders.json").read_text())
    assert set(fragment["decoders"]) == {"argmax", "beam_lm"}
    weights = fragment["decoders"]["beam_lm"]["args"]
    assert (weights["lm_weight"], weights["word_score"]) == (chosen.lm_weight, chosen.word_score)
    # The same sentences as test data must give the figures of the search.
    same = "data.test.datasets=[{type: SyntheticSpeech, args: {part: val, n_utterances: 6}}]"
    arguments = ["-r", str(trained / "run" / "model_best.pth"), "-c", str(out / "decoders.json"), "-d", "cpu"]
    assert test_script.main([*arguments, "--set", same, "-o", str(tmp_path / "output.json")]) == 0
    figures = json.loads((tmp_path / "metrics.json").read_text())["output.json"]["splits"]["test"]
    assert figures["wer_beam_lm"] == pytest.approx(chosen.wer)
    assert figures["cer_beam_lm"] == pytest.approx(chosen.cer)


def test_posteriors_are_computed_once_for_each_checkpoint(trained, caplog):
    command = [*with_lm(trained), "--lm-weight", "0,1", "--word-score", "0"]
    stored = trained / "out" / "posteriors-val.pth"
    assert tune(trained, *command) == 0
    first, figures = stored.stat().st_mtime_ns, (trained / "out" / "points.json").read_text()
    caplog.clear()
    assert tune(trained, *command) == 0
    assert "posteriors of an earlier search" in caplog.text
    assert stored.stat().st_mtime_ns == first

    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    stored.write_bytes(content)
    caplog.clear()
    assert tune(trained, *command) == 0
    assert "damaged" in caplog.text
    again = checkpoint.load(stored)
    assert tune(trained, *command, "--set", "data.val.limit=4") == 0
    assert len(checkpoint.load(stored)["texts"]) == 4
    os.utime(trained / "run" / "model_best.pth")
    assert tune(trained, *command) == 0
    last = checkpoint.load(stored)
    assert last["key"] != again["key"]
    assert torch.equal(last["frames"], again["frames"])
    rates = [[(p["wer"], p["cer"]) for p in json.loads(text)] for text in (figures, _points(trained))]
    assert rates[0] == rates[1]


def _points(trained):
    return (trained / "out" / "points.json").read_text()


def test_a_best_value_at_the_edge_is_pointed_out(trained, capsys):
    few = [*with_lm(trained), "--set", "data.val.limit=2"]
    assert tune(trained, *few, "--lm-weight", "0,3", "--word-score=-9,-8") == 0
    printed = capsys.readouterr().out
    assert "is at the edge of what was tried" in printed
    assert tune(trained, *few, "--lm-weight", "0", "--word-score", "1") == 0
    assert "edge" not in capsys.readouterr().out


def test_errors_are_one_line(trained, capsys):
    both = [*with_lm(trained), *with_lm(trained, name="other")]
    for arguments, expected in [
        ([*both, "--decoder", "other", "--split", "test"], "--split test: is kept for the test"),
        ([*both, "--decoder", "other", "--split", "test-clean"], "--split test-clean: is kept for the test"),
        ([*both, "--decoder", "other", "--split", "train"], "--split train: is not an evaluation split. Known: val"),
        (
            [*both, "--decoder", "other", "--split", "vla"],
            "--split vla: is not an evaluation split. Did you mean 'val'",
        ),
        ([], "decoders: none has a language model; add one: --set"),
        (both, "several have a language model; choose with --decoder: beam_lm, other"),
        ([*both, "--decoder", "othr"], "--decoder othr: the config has no such decoder. Did you mean 'other'?"),
        (["--decoder", "argmax"], "--decoder argmax: Greedy has no lm_weight and word_score to search"),
        (["--set", "decoders.b=ReferenceBeamSearch", "--decoder", "b"], "--decoder b: it has no language model"),
        (
            [*with_lm(trained), "--lm-weight=-1,0"],
            "decoders.beam_lm.args.lm_weight: expected greater than or equal to 0, found -1",
        ),
        ([*with_lm(trained), "-c", "none.json"], "none.json: no such file"),
        ([*with_lm(trained), "-o", "/proc/x"], "/proc/x/posteriors-val.pth: not written"),
    ]:
        assert tune(trained, *arguments) == 2, arguments
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, (arguments, errors)
        assert expected in errors[0]
    for numbers in ("0,high", "0,nan", ""):
        with pytest.raises(SystemExit) as caught:
            tune(trained, "--lm-weight", numbers)
        assert caught.value.code == 2
        assert f"expected numbers with commas between them, found {numbers!r}" in capsys.readouterr().err
