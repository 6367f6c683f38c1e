"""Where speech begins and ends, against librosa."""

import pytest
import torch

from hw_base.audio.silence import speech_bounds

librosa = pytest.importorskip("librosa", reason="librosa is the reference")


@pytest.mark.parametrize("rate", [16000, 22050, 24000])
@pytest.mark.parametrize("threshold_db", [20.0, 40.0, 60.0])
def test_bounds_equal_those_of_librosa(rate, threshold_db):
    """librosa ends one step behind the last loud window's center, ours one sample behind it."""
    generator = torch.Generator().manual_seed(rate)
    waveform = torch.randn(2 * rate, generator=generator) * 1e-5
    rising = torch.linspace(0.01, 1, rate - rate // 3)
    waveform[rate // 3 : rate] += torch.randn(len(rising), generator=generator) * rising
    window, step = round(0.02 * rate), round(0.005 * rate)
    trimmed = librosa.effects.trim(waveform.numpy(), top_db=threshold_db, frame_length=window, hop_length=step)
    start, end = (int(place) for place in trimmed[1])
    assert speech_bounds(waveform, rate, threshold_db, 0.0) == (start, end - step + 1)
