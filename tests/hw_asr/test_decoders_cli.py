"""``test.py`` with every registered decoder at once, over characters and over word pieces."""

import json

import pytest

import test as test_script
import train as train_script
from hw_asr import train_lm
from hw_base.registry import DECODERS
from hw_base.synthetic import sentences
from tests.conftest import ROOT

jiwer = pytest.importorskip("jiwer", reason="counts the errors a second time")
pytest.importorskip("numba", reason="compiles BeamSearch")
pytest.importorskip("flashlight.lib.text", reason="is FlashlightBeamSearch")
pytest.importorskip("kenlm", reason="scores words for FlashlightBeamSearch")

ENCODERS = {
    "char": {"type": "CharTextEncoder"},
    "sentencepiece": {"type": "SentencePieceTextEncoder", "args": {"vocab_size": 60}},
}


@pytest.fixture(scope="module", params=ENCODERS)
def trained(request, tmp_path_factory):
    """A folder with a checkpoint, a language model of its tokens and one of words."""
    if request.param == "sentencepiece":
        pytest.importorskip("sentencepiece", reason="trains the vocabulary")
    folder = tmp_path_factory.mktemp(request.param)
    run = ["--run-dir", str(folder / "run"), "-d", "cpu", "--set", "trainer.max_steps=2"]
    run += ["--set", f"text_encoder={json.dumps(ENCODERS[request.param])}"]
    assert train_script.main(["-c", str(ROOT / "configs" / "tiny" / "ds2.json"), *run]) == 0
    (folder / "text").write_text("\n".join(sentences.draw("train", 200, seed=0)))
    best = str(folder / "run" / "model_best.pth")
    common = ["--text", str(folder / "text"), "--text-encoder", best, "--order", "2"]
    assert train_lm.main([*common, "--level", request.param, "-o", str(folder / "tokens.arpa")]) == 0
    assert train_lm.main([*common, "-o", str(folder / "words.arpa")]) == 0
    return folder


def recognize(trained, output, decoders):
    arguments = ["-r", str(trained / "run" / "model_best.pth"), "-d", "cpu", "-o", str(output / "output.json")]
    assert test_script.main([*arguments, "--set", f"decoders={json.dumps(decoders)}"]) == 0
    rows = json.loads((output / "output.json").read_text())
    return rows, json.loads((output / "metrics.json").read_text())["output.json"]["splits"]["test"]


def component(kind, **args):
    return {"type": kind, "args": args}


def all_decoders(trained):
    tokens, words = str(trained / "tokens.arpa"), str(trained / "words.arpa")
    exact = {"beam_size": 4, "tokens_per_frame": None, "beam_threshold": None}
    return {
        "argmax": "Greedy",
        "beam": component("BeamSearch", n_best=3, engine="compiled", **exact),
        "beam_tensor": component("BeamSearch", engine="tensor", **exact),
        "reference": component("ReferenceBeamSearch", beam_size=4),
        "beam_lm": component("BeamSearch", lm=tokens, engine="compiled", **exact),
        "beam_lm_tensor": component("BeamSearch", lm=tokens, engine="tensor", **exact),
        "reference_lm": component("ReferenceBeamSearch", beam_size=4, lm=tokens),
        "beam_words": component("BeamSearch", lm=words, lm_weight=0.7, word_score=0.3),
        "flashlight": component("FlashlightBeamSearch"),
        "flashlight_lm": component("FlashlightBeamSearch", lm=tokens),
        "flashlight_words": component("FlashlightBeamSearch", lm=words, word_score=0.3),
    }


def test_every_decoder_is_reported_in_one_pass(trained, tmp_path, capsys):
    decoders = all_decoders(trained)
    kinds = {d if isinstance(d, str) else d["type"] for d in decoders.values()}
    of_ctc = {name for name, decoder in DECODERS.items() if decoder.reads == "log_probs"}
    assert kinds == of_ctc, "a registered decoder is not tested here"
    rows, figures = recognize(trained, tmp_path, decoders)
    texts = {name: [row[f"pred_text_{name}"] for row in rows] for name in decoders}
    assert all(isinstance(text, str) for column in texts.values() for text in column)
    said = sentences.draw("test", 5, seed=0)
    assert [row["ground_truth"] for row in rows] == said
    assert set(figures) == {f"{metric}_{name}" for metric in ("wer", "cer") for name in decoders}
    for name, column in texts.items():
        assert figures[f"wer_{name}"] == pytest.approx(jiwer.wer(said, column)), name
        written = [" ".join(text.split()) for text in column]
        assert figures[f"cer_{name}"] == pytest.approx(jiwer.cer(said, written)), name
    assert f"wer_beam_words {figures['wer_beam_words']:.4f}" in capsys.readouterr().out
    # The same search by three programs, with and without a language model.
    assert texts["beam"] == texts["beam_tensor"] == texts["reference"]
    assert texts["beam_lm"] == texts["beam_lm_tensor"] == texts["reference_lm"]
    known = set((trained / "text").read_text().split())
    assert {
        word for name in ("beam_words", "flashlight_words") for text in texts[name] for word in text.split()
    } <= known
    # The keys that scripts written for the course's template read: argmax, and the n-best list of the first other one.
    for row in rows:
        assert row["ground_trurh"] == row["ground_truth"]
        best = row["pred_text_beam_search"]
        assert [best[0][0], len(best)] == [row["pred_text_beam"], 3]
        assert best[0][1] >= best[1][1] >= best[2][1]


def test_a_decoder_alone_gives_what_it_gives_among_others(trained, tmp_path):
    decoders = all_decoders(trained)
    together, figures = recognize(trained, tmp_path, {name: decoders[name] for name in ("argmax", "reference", "beam")})
    alone, figures_alone = recognize(trained, tmp_path, {"beam": decoders["beam"]})
    assert figures_alone == {key: figures[key] for key in ("wer_beam", "cer_beam")}
    for one, row in zip(alone, together, strict=True):
        assert one["pred_text_argmax"] is None
        assert one["pred_text_beam"] == one["pred_text_beam_search"][0][0] == row["pred_text_beam"]
        assert row["pred_text_beam_search"][0][0] == row["pred_text_reference"]


def test_a_language_model_of_other_tokens_is_refused(trained, tmp_path, capsys):
    (tmp_path / "text").write_text("ξ ψ ω\n" * 3)
    assert train_lm.main(["--text", str(tmp_path / "text"), "--order", "1", "-o", str(tmp_path / "lm.arpa")]) == 0
    for kind in ("BeamSearch", "FlashlightBeamSearch", "ReferenceBeamSearch"):
        section = component(kind, lm=str(tmp_path / "lm.arpa"))
        arguments = ["-r", str(trained / "run" / "model_best.pth"), "-d", "cpu", "-o", str(tmp_path / "output.json")]
        code = test_script.main([*arguments, "--set", f"decoders.beam={json.dumps(section)}"])
        assert (kind, code) == (kind, 2)
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert errors[0].startswith("error: decoders.beam: ")
