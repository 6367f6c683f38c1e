"""The fused engine against the others: by Triton's interpreter on the CPU, and as it is on a GPU."""

import os
import subprocess
import sys

import pytest
import torch

from hw_asr.decoders.beam import BeamSearch
from hw_asr.text_encoders.characters import CharTextEncoder
from hw_base.errors import ConfigError, MissingPackageError
from tests.conftest import ROOT

LM = str(ROOT / "tests" / "hw_asr" / "language_models" / "kenlm" / "trie.binary")
EVERYTHING = {"lm": LM, "word_score": 0.3, "blank_skip": 0.5, "beam_threshold": 4.0, "hot_words": {"ab": 1.0}}
CASES = {
    "plain": {"tokens_per_frame": 3},
    "lm": {"lm": LM, "lm_weight": 0.8},
    "everything": EVERYTHING,
    "one": {"beam_size": 1, "n_best": 1},
}


def posteriors(n_frames, batch):
    """Frames with strong blanks and repeated tokens among them."""
    encoder = CharTextEncoder(" abcdé")
    logits = torch.randn(batch, n_frames, len(encoder), generator=torch.Generator().manual_seed(3)) * 2.5
    logits[:, ::3, 0] += 3.0
    logits[:, 1::3, 2] += 2.0
    return encoder, logits.log_softmax(2), torch.tensor([n_frames, 0, *[n_frames - 2] * batch][:batch])


def compare(name, device, n_frames, batch, dense_entries=None):
    """The n-best lists of both engines are the same, scores to 1e-5."""
    if dense_entries is not None:  # several lookups before a dense row
        from hw_asr.language_models import ngram

        ngram._DENSE_ENTRIES = dense_entries
    encoder, log_probs, lengths = posteriors(n_frames, batch)
    options = {"beam_size": 5, "n_best": 5, **CASES[name]}
    engine = "tensor" if device == "cpu" else "compiled"
    expected = BeamSearch(encoder, engine=engine, **options)(log_probs, lengths)
    found = BeamSearch(encoder, engine="fused", **options)(log_probs.to(device), lengths.to(device))
    assert any(len(n_best) > 1 for n_best in found) or options["n_best"] == 1
    for left, right in zip(found, expected, strict=True):
        assert [(h.tokens, h.text, h.timesteps) for h in left] == [(h.tokens, h.text, h.timesteps) for h in right]
        for one, other in zip(left, right, strict=True):
            scores = [(h.score, h.acoustic_score, h.lm_score) for h in (one, other)]
            assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def interpret(arguments, tmp_path):
    """Triton decides when it is imported whether it interprets: a process of its own."""
    pytest.importorskip("triton")
    code = f"from tests.hw_asr.decoders.test_fused import compare; compare{arguments!r}; print('the same')"
    environment = {**os.environ, "TRITON_INTERPRET": "1", "XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "the same\n"), done.stderr[-2000:]


def test_interpreted_it_gives_the_n_best_of_the_tensor_engine(tmp_path):
    interpret(("everything", "cpu", 7, 2, 20), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dense_entries", [0, None])
@pytest.mark.parametrize("name", CASES)
def test_interpreted_with_every_option(name, dense_entries, tmp_path):
    if name in ("plain", "one") and dense_entries == 0:
        pytest.skip("has no language model")
    interpret((name, "cpu", 16, 3, dense_entries), tmp_path)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu_it_gives_the_n_best_of_the_compiled_engine(name, monkeypatch, tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    pytest.importorskip("triton")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compare(name, "cuda", 200, 16)


def test_what_it_cannot_do_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    encoder, log_probs, lengths = posteriors(4, 2)
    (tmp_path / "words.txt").write_text("ab\nba\n")
    with pytest.raises(ConfigError, match="engine 'fused' scores tokens only"):
        BeamSearch(encoder, engine="fused", lexicon=str(tmp_path / "words.txt"))
    if pytest.importorskip("triton"):
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)
        with pytest.raises(ConfigError, match="engine 'fused' runs on a GPU"):
            BeamSearch(encoder, engine="fused")(log_probs, lengths)
    monkeypatch.setitem(sys.modules, "hw_asr.decoders.tensor.fused", None)
    with pytest.raises(MissingPackageError, match="pip install triton"):
        BeamSearch(encoder, engine="fused")
