"""``train_lm --level sentencepiece``: from a checkpoint and a text to what the decoders write."""

import json
import math

import pytest
import torch

from hw_asr.decoders.beam import BeamSearch
from hw_asr.decoders.flashlight import FlashlightBeamSearch
from hw_asr.decoders.reference import ReferenceBeamSearch
from hw_asr.language_models.arpa import read_arpa
from hw_asr.language_models.cache import open_ngram
from hw_asr.text_encoders.characters import CharTextEncoder
from hw_asr.train_lm import main
from hw_base.errors import ConfigError
from hw_base.trained import load_task
from tests.recognizers import save_random

pytest.importorskip("sentencepiece", reason="trains the vocabularies")

# "their" is always followed by "house" and "there" by "is"; the words sound alike.
TEXT = ["their house stood by the lake", "there is a house by the lake", "i saw their house", "there is the lake"] * 5


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def trained(request, tmp_path_factory):
    """A checkpoint's text encoder, the checkpoint, and a language model of its pieces."""
    folder = tmp_path_factory.mktemp(request.param)
    n_pieces = {"bpe": 45, "unigram": 34}[request.param]
    section = f"{{type: SentencePieceTextEncoder, args: {{vocab_size: {n_pieces}, model_type: {request.param}}}}}"
    save_random(folder / "checkpoint.pth", [f"text_encoder={section}"], TEXT)
    encoder = load_task(folder / "checkpoint.pth").text_encoder
    (folder / "text").write_text("\n".join([*TEXT, "", "Their HOUSE!"]))
    common = ["--text", str(folder / "text"), "--level", "sentencepiece", "--order", "3"]
    common += ["--text-encoder", str(folder / "checkpoint.pth"), "-o", str(folder / "lm.arpa")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert main([*common, "--perplexity", str(folder / "text")]) == 0
        yield encoder, folder


def either_word(encoder):
    """Posteriors (1, T, V) of "i saw (their | there) house" in which "there" is a little more probable."""
    texts = ["i saw their house", "i saw there house"]
    paths = [[token for piece in encoder.encode(text) for token in (piece, 0)] for text in texts]
    n_frames = max(map(len, paths))
    probabilities = torch.full((1, n_frames, len(encoder)), 1e-4)
    for path, weight in zip(paths, (0.45, 0.55), strict=True):
        for frame, token in enumerate([*path, *[0] * (n_frames - len(path))]):
            probabilities[0, frame, token] += weight
    return (probabilities / probabilities.sum(2, keepdim=True)).log(), torch.tensor([n_frames])


def test_the_units_are_the_pieces_of_the_encoder(trained, capsys):
    encoder, folder = trained
    pieces = {encoder._trained.id_to_piece(i) for i in range(1, len(encoder))}
    vocabulary = set(read_arpa(folder / "lm.arpa").vocabulary)
    assert vocabulary - {"<s>", "</s>", "<unk>"} <= pieces
    assert "▁" in "".join(vocabulary)
    common = ["--level", "sentencepiece", "--text-encoder", str(folder / "checkpoint.pth")]
    assert main([*common, "--perplexity", str(folder / "text"), "-o", str(folder / "lm.arpa")]) == 0
    report = json.loads(capsys.readouterr().out)
    n_pieces = sum(len(encoder.encode(text)) for text in [*TEXT, "their house"])
    assert (report["units"], report["unknown"]) == (n_pieces + len(TEXT) + 1, 0)
    model = open_ngram(folder / "lm.arpa")
    lines = [" ".join(encoder._trained.encode_as_pieces(encoder.normalize(text))) for text in [*TEXT, "their house"]]
    assert report["perplexity"] == pytest.approx(math.exp(-sum(map(model.score, lines)) / report["units"]), rel=1e-6)


@pytest.mark.parametrize("kind", ["compiled", "tensor", "reference", "flashlight"])
def test_every_decoder_writes_what_the_model_expects(trained, kind):
    encoder, folder = trained
    arguments = {"beam_size": 20, "lm": str(folder / "lm.arpa")}
    if kind == "reference":
        make = ReferenceBeamSearch
    elif kind == "flashlight":
        pytest.importorskip("flashlight.lib.text")
        pytest.importorskip("kenlm")
        make = FlashlightBeamSearch
    else:
        pytest.importorskip("numba")
        make, arguments["engine"] = BeamSearch, kind
    batch = either_word(encoder)
    (plain,) = make(encoder, **{**arguments, "lm_weight": 0.0})(*batch)[0]
    (found,) = make(encoder, **{**arguments, "lm_weight": 1.0})(*batch)[0]
    assert [plain.text, found.text] == ["i saw there house", "i saw their house"]
    pieces = " ".join(encoder._trained.id_to_piece(token) for token in found.tokens)
    assert found.lm_score == pytest.approx(open_ngram(folder / "lm.arpa").score(pieces), abs=1e-4)


def test_an_encoder_of_other_pieces_refuses_the_model(trained):
    _, folder = trained
    with pytest.raises(ConfigError, match="train it with the same text encoder"):
        BeamSearch(CharTextEncoder(" qxzjv"), lm=str(folder / "lm.arpa"), lm_level="token")
