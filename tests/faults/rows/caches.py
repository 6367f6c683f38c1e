"""What is kept to save time: damaged, half written, used by several processes at once, on a disk that takes nothing."""

import os
import random
from pathlib import Path

import numpy as np

from hw_asr.language_models.cache import open_ngram
from hw_tts.features.cache import FeatureCache
from tests.faults.rows.checkpoints import DAMAGES
from tests.faults.table import row
from tests.hw_asr.language_models.test_ngram import SMALL
from tests.hw_tts.features import test_cache as features


def damaged(path: Path, seed: int) -> str:
    """Damage a file; how."""
    chosen = random.Random(seed)
    damage = DAMAGES[seed % len(DAMAGES)]
    content = bytearray(path.read_bytes())
    path.write_bytes(damage(content, chosen) or content)
    return damage.__name__


def cached_features(trials):
    place = trials.new_folder()
    record = features.write(place / "a.wav", 200.0)
    first = features.get(FeatureCache(place / "cache", features.features()), record)
    (path,) = (place / "cache").rglob("*.bin")
    content = path.read_bytes()
    for seed in range(trials.size(20, 250)):
        with trials.trial(f"an entry of the feature cache, seed {seed}"):
            path.write_bytes(content)
            damaged(path, seed)
            assert features.equal(features.get(FeatureCache(place / "cache", features.features()), record), first)
            assert path.read_bytes() == content


def cached_models(trials):
    place = trials.new_folder()
    arpa = place / "model.arpa"
    arpa.write_text(SMALL)
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(place / "cache")
    try:
        first = open_ngram(arpa)
        (path,) = (place / "cache").rglob("*.npz")
        content = path.read_bytes()
        for seed in range(trials.size(20, 250)):
            with trials.trial(f"a cached language model, seed {seed}"):
                path.write_bytes(content)
                damaged(path, seed)
                again = open_ngram(arpa)
                assert again.vocabulary == first.vocabulary
                assert all(np.array_equal(a, b) for a, b in zip(again.arrays, first.arrays, strict=True))
    finally:
        os.environ.pop("XDG_CACHE_HOME") if before is None else os.environ.update(XDG_CACHE_HOME=before)


@row(
    19,
    "caches of features, language models and speech: damaged, killed while written, shared, full",
    "what is used is what was computed, to the bit; a damaged entry is made again",
)
def caches(trials):
    cached_features(trials)
    cached_models(trials)
    corpus = "damaged or killed or two_builds or without_locks or cannot_be_written"
    trials.tests("tests/hw_base/synthetic/test_corpus.py", only=corpus)
    trials.tests("tests/hw_tts/features/test_cache.py", "tests/hw_base/test_storage.py")
