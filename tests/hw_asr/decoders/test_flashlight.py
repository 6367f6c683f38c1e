import math

import pytest
import torch

from hw_asr.decoders.beam import BeamSearch
from hw_asr.decoders.flashlight import FlashlightBeamSearch
from hw_asr.language_models.arpa import write_arpa
from hw_asr.language_models.cache import open_ngram
from hw_asr.language_models.kneser_ney import estimate
from hw_asr.text_encoders.characters import CharTextEncoder
from hw_base.errors import ConfigError, DataError, MissingPackageError

TEXT = ["a cab", "a bee", "bee cab", "abe", "a bad cab bee", "be a cad"]


@pytest.fixture(autouse=True)
def _needs_the_library(monkeypatch, tmp_path):
    pytest.importorskip("flashlight.lib.text")
    pytest.importorskip("torchaudio")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def encoder():
    return CharTextEncoder(" abcde")


@pytest.fixture
def char_lm(tmp_path):
    pytest.importorskip("kenlm")
    write_arpa(estimate([list(text.replace(" ", "▁")) for text in TEXT], 3)[0], tmp_path / "char.arpa")
    return str(tmp_path / "char.arpa")


@pytest.fixture
def word_lm(tmp_path):
    pytest.importorskip("kenlm")
    write_arpa(estimate([text.upper().split() for text in TEXT], 2)[0], tmp_path / "word.arpa")
    return str(tmp_path / "word.arpa")


def posteriors(encoder, texts, n_frames=30, seed=0, noise=0.5):
    logits = noise * torch.randn(len(texts), n_frames, len(encoder), generator=torch.Generator().manual_seed(seed))
    logits[:, :, 0] += 3.0
    for row, text in enumerate(texts):
        for i, token in enumerate(encoder.encode(text)):
            logits[row, 2 * i + 1, token] += 9.0
    return torch.log_softmax(logits, -1), torch.full((len(texts),), n_frames)


def assert_alike(ours, theirs, absolute):
    for left, right in zip(ours, theirs, strict=True):
        assert left[0].tokens == right[0].tokens
        assert left[0].lm_score == pytest.approx(right[0].lm_score, abs=1e-5)
        assert left[0].score == pytest.approx(right[0].score, abs=absolute)
        assert left[0].acoustic_score == pytest.approx(right[0].acoustic_score, abs=absolute)


def test_without_a_model_it_is_our_own_search(encoder):
    batch = posteriors(encoder, TEXT, n_frames=28)
    theirs = FlashlightBeamSearch(encoder, 300, log_add=True, beam_threshold=100.0)(*batch)
    ours = BeamSearch(encoder, 300, beam_threshold=None, tokens_per_frame=None)(*batch)
    assert_alike(ours, theirs, absolute=0.02)


@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_a_token_model_weighs_the_same_as_in_our_own_search(encoder, char_lm, weight):
    batch = posteriors(encoder, TEXT, n_frames=28, noise=0.5)
    arguments = {"lm": char_lm, "lm_weight": weight}
    theirs = FlashlightBeamSearch(encoder, 300, log_add=True, beam_threshold=100.0, **arguments)(*batch)
    ours = BeamSearch(encoder, 300, beam_threshold=None, tokens_per_frame=None, **arguments)(*batch)
    assert_alike(ours, theirs, absolute=0.02)


def test_words_of_a_lexicon_weigh_the_same_as_in_our_own_search(encoder, word_lm):
    batch = posteriors(encoder, TEXT, n_frames=28, noise=0.5)
    arguments = {"lm": word_lm, "lm_weight": 0.6, "word_score": 0.4}
    theirs = FlashlightBeamSearch(encoder, 300, log_add=True, beam_threshold=100.0, **arguments)(*batch)
    ours = BeamSearch(encoder, 300, beam_threshold=None, tokens_per_frame=None, **arguments)(*batch)
    assert [h[0].text.strip() for h in theirs] == [h[0].text.strip() for h in ours] == TEXT
    for left, right in zip(ours, theirs, strict=True):
        assert left[0].lm_score == pytest.approx(right[0].lm_score, abs=1e-5)
        words = left[0].text.upper().strip()
        assert left[0].lm_score == pytest.approx(open_ngram(word_lm).score(words), abs=1e-5)


def test_the_score_is_the_library_s_own_with_kenlm_s_base_ten(encoder, char_lm):
    from torchaudio.models.decoder import ctc_decoder

    kenlm = pytest.importorskip("kenlm")
    batch = posteriors(encoder, TEXT)
    (hypothesis,) = FlashlightBeamSearch(encoder, lm=char_lm, lm_weight=0.8)(*batch)[0]
    tokens = ["<blank>", "▁", *"abcde"]
    log10 = kenlm.Model(char_lm).score(" ".join(tokens[i] for i in hypothesis.tokens))
    assert hypothesis.lm_score == pytest.approx(log10 * math.log(10), abs=1e-4)
    assert hypothesis.score == pytest.approx(hypothesis.acoustic_score + 0.8 * log10 * math.log(10), abs=1e-4)
    # The first trap: without the dictionary the library itself gives another score to the same model.
    naive = ctc_decoder(
        lexicon=None, tokens=tokens, lm=char_lm, blank_token="<blank>", sil_token="<blank>", unk_word="<unk>",
        lm_weight=0.8 * math.log(10), beam_size=50,
    )  # fmt: skip
    assert naive(*batch)[0][0].score != pytest.approx(hypothesis.score, abs=1e-3)


def test_frames_without_speech_and_of_others_change_nothing(encoder):
    log_probs, _ = posteriors(encoder, TEXT[:3])
    decoder = FlashlightBeamSearch(encoder, n_best=2)
    lengths = torch.tensor([30, 0, 17])
    together = decoder(log_probs, lengths)
    assert [(h.text, h.tokens, h.score) for h in together[1]] == [("", (), 0.0)]
    for row, n in ((0, 30), (2, 17)):
        assert decoder(log_probs[row : row + 1, :n], torch.tensor([n]))[0] == together[row]


def test_tokens_come_with_their_frames(encoder):
    path = [0, 2, 2, 0, 3, 1, 1, 4]
    log_probs = torch.full((1, len(path), 7), math.log(1e-9 / 6))
    log_probs[0, range(len(path)), path] = math.log(1 - 1e-9)
    (hypotheses,) = FlashlightBeamSearch(encoder)(log_probs, torch.tensor([len(path)]))
    assert (hypotheses[0].text, hypotheses[0].timesteps) == ("ab c", (1, 4, 5, 7))


def test_options_that_do_not_fit_are_named(encoder, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="word_score: flashlight has no bonus for tokens"):
        FlashlightBeamSearch(encoder, word_score=1.0)
    with pytest.raises(DataError, match="cannot read the language model"):
        FlashlightBeamSearch(encoder, lm=str(tmp_path / "none.arpa"))
    with pytest.raises(DataError, match="do not sum to one"):
        FlashlightBeamSearch(encoder)(torch.zeros(1, 3, 7), torch.tensor([3]))
    monkeypatch.setitem(__import__("sys").modules, "kenlm", None)
    write_arpa(estimate([list("abcde")], 2)[0], tmp_path / "lm.arpa")
    with pytest.raises(MissingPackageError, match="pip install kenlm"):
        FlashlightBeamSearch(encoder, lm=str(tmp_path / "lm.arpa"))


def test_the_missing_library_is_named(encoder, monkeypatch):
    """Where it has no build; torchaudio's own error for it is no `ImportError`."""
    monkeypatch.setitem(__import__("sys").modules, "flashlight.lib.text", None)
    with pytest.raises(MissingPackageError, match="pip install flashlight-text"):
        FlashlightBeamSearch(encoder)
