import numpy as np
import pytest

from hw_base.data.split import Split
from hw_base.datasets import VCTK
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.features.cache import FeatureCache

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("pyworld")


def test_trimmed_and_whole_recordings_have_entries_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "wav48" / "p225").mkdir(parents=True)
    samples = np.zeros(3 * 22050)
    samples[22050:44100] = np.random.default_rng(0).uniform(-0.5, 0.5, 22050)
    soundfile.write(tmp_path / "wav48" / "p225" / "p225_001.wav", samples, 22050)
    features = TTSFeatures()
    cache = FeatureCache(tmp_path / "features", features)
    lengths = []
    for trim_db in (None, 40.0, 40.0):
        dataset = VCTK(str(tmp_path), "all", trim_db=trim_db, trim_margin=0.0)
        split = Split("all", [dataset], lambda *_: {}, 22050)
        assert cache.fill(split) == {}
        lengths.append(cache.get(split.records[0], None)["spectrogram"].shape[-1])
    assert lengths[0] == 3 * 22050 // 256 + 1
    assert lengths[1] == lengths[2] == pytest.approx(22050 / 256, abs=3)
