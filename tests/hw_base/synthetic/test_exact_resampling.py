import numpy as np
import pytest

from hw_base.synthetic import exact_resampling as polyphase
from hw_base.synthetic.exact_resampling import resample


def sine(frequency, rate, seconds=1.0, amplitude=20000.0):
    time = np.arange(round(rate * seconds)) / rate
    return np.rint(amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.int16)


def decibels(samples, reference):
    inner = slice(500, -500)
    return 20 * np.log10(samples[inner].std() / reference[inner].std() + 1e-12)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(22050, 16000), (16000, 22050), (48000, 16000), (16000, 48000)])
@pytest.mark.parametrize("frequency", [100, 1000, 4321, 7100])
def test_a_sine_is_the_same_sine_at_the_other_rate(from_rate, to_rate, frequency):
    resampled = resample(sine(frequency, from_rate), from_rate, to_rate).astype(float)
    wanted = sine(frequency, to_rate).astype(float)
    assert resampled.shape == wanted.shape
    assert decibels(resampled - wanted, wanted) < -75


@pytest.mark.parametrize("frequency", [8100, 9000, 10500])
def test_what_the_lower_rate_cannot_hold_is_removed_instead_of_folded(frequency):
    original = sine(frequency, 22050)
    assert decibels(resample(original, 22050, 16000).astype(float), original.astype(float)) < -75


@pytest.mark.parametrize("n", [0, 1, 2, 440, 441, 442, 12345])
def test_length(n):
    samples = np.full(n, 1000, np.int16)
    assert len(resample(samples, 22050, 16000)) == -(-n * 16000 // 22050)
    assert len(resample(samples, 16000, 22050)) == -(-n * 22050 // 16000)


def test_constant_stays_constant_and_peaks_are_clipped():
    assert set(resample(np.full(4000, 12345, np.int16), 22050, 16000)[200:-200]) == {12345}
    square = np.where(np.arange(8000) // 40 % 2, 32767, -32768).astype(np.int16)
    resampled = resample(square, 22050, 16000)
    # A band-limited square wave overshoots; without clipping the 16-bit numbers would wrap around to the other sign.
    assert resampled.max() == 32767
    assert resampled.min() == -32768
    middle = (np.arange(len(resampled)) * 22050 / 16000 % 40 - 20).__abs__() < 10
    signs = np.where((np.arange(len(resampled)) * 22050 / 16000) // 40 % 2, 1, -1)
    assert np.array_equal(np.sign(resampled[middle]), signs[middle])


def test_sums_are_exact_so_that_their_order_does_not_matter():
    generator = np.random.default_rng(0)
    noise = generator.integers(-32768, 32768, 5000).astype(np.int16)
    whole = resample(noise, 22050, 16000)
    # Blocks of other sizes make other matrix products; far from the cut, every bit must agree.
    for cut in (2205, 3528, 4410):
        part = resample(noise[:cut], 22050, 16000)
        keep = len(part) - 100
        assert np.array_equal(part[:keep], whole[:keep])


def test_equal_rates_change_nothing():
    samples = np.arange(10, dtype=np.int16)
    assert np.array_equal(resample(samples, 16000, 16000), samples)


@pytest.mark.parametrize(("up", "down"), [(320, 441), (441, 320)])
def test_coefficients_are_whole_and_their_sums_fit_a_double(up, down):
    _, groups = polyphase._filters(up, down)
    for _, matrix in groups:
        assert np.array_equal(matrix, np.rint(matrix))
        assert np.abs(matrix).sum(axis=0).max() * 32768 < 2**53
