import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from hw_asr.augmentations import (
    BackgroundNoise,
    BandPass,
    Clipping,
    ColoredNoise,
    Gain,
    PitchShift,
    Reverberation,
    SpecAugment,
    SpeedPerturbation,
    dsp,
)
from hw_asr.augmentations.rate import shift_pitch
from hw_asr.augmentations.waveform import colored_noise
from hw_base.audio import io as audio
from hw_base.errors import ConfigError, DataError
from hw_base.registry import AUGMENTATIONS
from tests.conftest import SHARED

SAMPLE_RATE = 16000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def speech_like(n: int = SAMPLE_RATE) -> torch.Tensor:
    """Bursts of a harmonic tone of 150 Hz with a little noise."""
    t = torch.arange(n) / SAMPLE_RATE
    tone = sum(torch.sin(2 * math.pi * 150 * k * t) / k for k in range(1, 9))
    return 0.1 * tone * (torch.sin(2 * math.pi * 2 * t) > 0) + 0.001 * torch.randn(n, generator=seeded(1))


def snr(clean: torch.Tensor, noisy: torch.Tensor) -> float:
    return float(10 * torch.log10(clean.double().square().mean() / (noisy - clean).double().square().mean()))


@pytest.fixture(scope="module")
def noise_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    audio.save(folder / "a" / "short.wav", 0.3 * torch.randn(5000, generator=seeded(2)).clamp(-3, 3), SAMPLE_RATE)
    audio.save(folder / "long.flac", 0.1 * torch.randn(40000, generator=seeded(3)), 22050)
    (folder / "readme.txt").write_text("not audio")
    return folder


@pytest.fixture(scope="module")
def response_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rir")
    decay = torch.exp(-torch.arange(3000) / 400.0)
    response = 0.3 * torch.randn(3000, generator=seeded(4)).clamp(-2, 2) * decay
    response[120] = 0.95
    audio.save(folder / "room.wav", response, SAMPLE_RATE)
    audio.save(folder / "stairs.wav", response.repeat(2), SAMPLE_RATE)
    return folder


@pytest.fixture
def everything(noise_folder, response_folder):
    """Every waveform augmentation, certain to act."""
    return [
        Gain(p=1.0),
        ColoredNoise(p=1.0),
        BackgroundNoise(str(noise_folder), SAMPLE_RATE, p=1.0),
        Clipping(p=1.0),
        BandPass(SAMPLE_RATE, p=1.0),
        Reverberation(str(response_folder), SAMPLE_RATE, p=1.0),
        SpeedPerturbation((0.9, 1.1)),
        PitchShift(SAMPLE_RATE, min_semitones=1.0, max_semitones=3.0, p=1.0),
    ]


def test_the_fixture_names_every_registered_waveform_augmentation(everything):
    registered = {name for name, cls in AUGMENTATIONS.items() if cls.domain == "waveform"}
    assert {type(augmentation).__name__ for augmentation in everything} == registered


def test_everything_acts_and_repeats_itself_with_the_generator(everything):
    x = speech_like()
    kept = x.clone()
    for augmentation in everything:
        first, again = augmentation(x, seeded(5)), augmentation(x, seeded(5))
        torch.testing.assert_close(first, again, rtol=0, atol=0)
        assert first.shape != x.shape or not torch.equal(first, x), type(augmentation)
        others = [augmentation(x, seeded(seed)) for seed in range(6, 12)]
        assert any(o.shape != first.shape or not torch.equal(o, first) for o in others), type(augmentation)
        torch.testing.assert_close(x, kept, rtol=0, atol=0)  # nothing works in place


def test_only_the_given_generator_is_drawn_from(everything):
    state = torch.get_rng_state()
    for augmentation in everything:
        augmentation(speech_like(4000), seeded())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("n", [0, 1, 2, 37, 1000])
@pytest.mark.parametrize("level", [0.0, 1e-30, 0.5])
def test_silent_and_short_input_stays_finite(everything, n, level):
    for augmentation in everything:
        out = augmentation(level * torch.ones(n), seeded())
        assert out.dtype == torch.float32
        assert torch.isfinite(out).all(), type(augmentation)
        expected = n if not isinstance(augmentation, SpeedPerturbation) else None
        assert expected is None or len(out) == expected, type(augmentation)
        assert (len(out) == 0) == (n == 0)


def test_silence_stays_silence(everything):
    for augmentation in everything:
        assert not augmentation(torch.zeros(2000), seeded()).any(), type(augmentation)


def test_probability_is_the_share_of_changed_signals():
    x = speech_like(100)
    changed = {}
    for p in (0.0, 0.3, 1.0):
        generator = seeded()
        changed[p] = sum(not torch.equal(Gain(p=p)(x, generator), x) for _ in range(1000)) / 1000
    assert changed[0.0] == 0.0
    assert changed[1.0] == 1.0
    assert abs(changed[0.3] - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 1000)


def test_gain_stays_within_its_range():
    x, generator = speech_like(100), seeded()
    gains = [float(20 * torch.log10(Gain(-6.0, 3.0, p=1.0)(x, generator)[7] / x[7])) for _ in range(300)]
    assert -6.001 < min(gains) < -5.5
    assert 2.5 < max(gains) < 3.001


@pytest.mark.parametrize("asked", [-5.0, 0.0, 20.0])
def test_noise_has_the_ratio_asked_for(noise_folder, asked):
    x = speech_like()
    for seed in range(5):
        noisy = ColoredNoise(asked, asked, p=1.0)(x, seeded(seed))
        assert snr(x, noisy) == pytest.approx(asked, abs=0.01)
        noisy = BackgroundNoise(str(noise_folder), SAMPLE_RATE, asked, asked, p=1.0)(x, seeded(seed))
        assert snr(x, noisy) == pytest.approx(asked, abs=0.01)


@pytest.mark.parametrize("exponent", [-2.0, 0.0, 1.0, 2.0])
def test_noise_has_the_slope_asked_for(exponent):
    generator = seeded()
    power = sum(torch.fft.rfft(colored_noise(4096, exponent, generator)).abs() ** 2 for _ in range(200))
    bins = torch.arange(20, 2000)
    slope = np.polyfit(torch.log(bins.double()).numpy(), torch.log(power[bins].double()).numpy(), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.05)


def test_background_is_a_part_of_a_recording(noise_folder):
    """Without the scale, what was added is found in one of the files, repeated where the file is short."""
    x = speech_like(9000)
    sounds = [audio.load(path, SAMPLE_RATE)[0] for path in sorted(noise_folder.rglob("*.*")) if path.suffix != ".txt"]
    found = set()
    for seed in range(12):
        added = BackgroundNoise(str(noise_folder), SAMPLE_RATE, 0.0, 0.0, p=1.0)(x, seeded(seed)) - x
        for i, sound in enumerate(sounds):
            if len(sound) < len(x):
                sound = sound.repeat(4)
            products = np.correlate(sound.double().numpy(), added.double().numpy(), "valid")
            energies = np.convolve(sound.double().numpy() ** 2, np.ones(len(x)), "valid")
            cosine = products / (np.sqrt(energies) * added.double().norm().item())
            if cosine.max() > 0.9999:
                found.add(i)
                break
        else:
            pytest.fail("the noise is in none of the files")
    assert found == {0, 1}


def test_clipping_cuts_at_a_share_of_the_peak():
    x = speech_like()
    clipped = Clipping(0.5, 0.5, p=1.0)(x, seeded())
    torch.testing.assert_close(clipped, x.clamp(-0.5 * x.abs().max(), 0.5 * x.abs().max()))


def test_band_pass_has_the_response_of_a_butterworth_filter():
    low, high, order = 300.0, 3400.0, 3
    band = BandPass(SAMPLE_RATE, low, low, high, high, order=order, p=1.0)
    t = torch.arange(SAMPLE_RATE) / SAMPLE_RATE
    for frequency in (50.0, 150.0, 300.0, 1000.0, 3400.0, 6000.0):
        out = band(torch.sin(2 * math.pi * frequency * t), seeded())
        wanted = 1 / math.sqrt((1 + (low / frequency) ** (2 * order)) * (1 + (frequency / high) ** (2 * order)))
        middle = out[4000:12000]
        assert float(middle.square().mean().sqrt() * math.sqrt(2)) == pytest.approx(wanted, rel=0.01, abs=1e-4)
        if wanted > 0.1:  # no delay: the output is in phase with the input
            phase = torch.dot(middle, torch.sin(2 * math.pi * frequency * t)[4000:12000]) / 4000
            assert float(phase) == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (1, 50), (50, 1), (30, 77), (20000, 1000), (50000, 9000), (60000, 20000)])
def test_overlap_add_equals_direct_convolution(n, k):
    x = torch.randn(n, generator=seeded(), dtype=torch.float64)
    kernel = torch.randn(k, generator=seeded(1), dtype=torch.float64)
    direct = torch.from_numpy(np.convolve(x.numpy(), kernel.numpy()))
    torch.testing.assert_close(dsp.convolve(x, kernel), direct, rtol=0, atol=1e-9)


def test_reverberation_is_the_convolution_from_the_direct_sound_on(response_folder):
    x = speech_like()
    expected = []
    for name in ("room.wav", "stairs.wav"):
        response, _ = audio.load(response_folder / name)
        direct = torch.from_numpy(np.convolve(x.double().numpy(), response.double().numpy()[120:])[: len(x)])
        expected.append(direct * (x.double().square().mean() / direct.square().mean()).sqrt())
    drawn = set()
    for seed in range(8):
        out = Reverberation(str(response_folder), SAMPLE_RATE, p=1.0)(x, seeded(seed)).double()
        errors = [float((out - direct).abs().max()) for direct in expected]
        assert min(errors) < 1e-5
        drawn.add(errors.index(min(errors)))
    assert drawn == {0, 1}


def test_silent_recordings_change_nothing(tmp_path):
    audio.save(tmp_path / "silence.wav", torch.zeros(3000), SAMPLE_RATE)
    x = speech_like(2000)
    for augmentation in (BackgroundNoise, Reverberation):
        torch.testing.assert_close(augmentation(str(tmp_path), SAMPLE_RATE, p=1.0)(x, seeded()), x, rtol=0, atol=0)


def test_real_noises_and_rooms():
    folder = SHARED / "data" / "noise_rir"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    x = speech_like()
    for name, cls in (("noise", BackgroundNoise), ("rir", Reverberation)):
        augmentation = cls(str(folder / name), SAMPLE_RATE, p=1.0)
        results = [augmentation(x, seeded(seed)) for seed in range(20)]
        assert all(len(out) == len(x) and bool(torch.isfinite(out).all()) for out in results)
        assert len({round(float(out.norm() + out[5000]), 6) for out in results}) > 8


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.0, 1.1, 1.25])
def test_speed_changes_length_and_frequency_by_the_factor(factor):
    t = torch.arange(SAMPLE_RATE) / SAMPLE_RATE
    out = SpeedPerturbation((factor,))(torch.sin(2 * math.pi * 400 * t), seeded())
    assert len(out) == math.ceil(Fraction(SAMPLE_RATE) / Fraction(str(factor)))
    assert frequency_of(out) == pytest.approx(400 * factor, rel=1e-3)


def test_each_speed_is_drawn():
    generator = seeded()
    lengths = {len(SpeedPerturbation()(torch.ones(990), generator)) for _ in range(60)}
    assert lengths == {1100, 990, 900}


@pytest.mark.parametrize("semitones", [-4.0, -1.0, 1.5, 3.0, 7.0])
@pytest.mark.parametrize("fundamental", [110.0, 220.0])
def test_pitch_moves_by_the_semitones_asked_for(semitones, fundamental):
    t = torch.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    voice = sum(torch.sin(2 * math.pi * fundamental * k * t) / k for k in range(1, 6)) / 4
    out = shift_pitch(voice, semitones, 512)
    assert len(out) == len(voice)
    assert frequency_of(out) == pytest.approx(fundamental * 2 ** (semitones / 12), rel=0.005)
    # As loud as before, from the beginning to the end.
    for part in (slice(500, 4000), slice(14000, 18000), slice(-4000, -500)):
        ratio = out[part].square().mean() / voice[part].square().mean()
        assert 0.7 < float(ratio.sqrt()) < 1.3


def test_pitch_shift_keeps_events_in_their_place():
    x = torch.zeros(SAMPLE_RATE)
    x[8000:8400] = torch.randn(400, generator=seeded())
    for semitones in (-3.0, 3.0):
        out = shift_pitch(x, semitones, 512)
        center = float((torch.arange(len(out)) * out.square()).sum() / out.square().sum())
        assert center == pytest.approx(8200, abs=150)


def test_pitch_shift_draws_within_its_range():
    t = torch.arange(SAMPLE_RATE) / SAMPLE_RATE
    shift = PitchShift(SAMPLE_RATE, 2.0, 4.0, p=1.0)
    generator = seeded()
    moved = [12 * math.log2(frequency_of(shift(torch.sin(2 * math.pi * 300 * t), generator)) / 300) for _ in range(12)]
    assert 1.8 < min(moved) < 3.0 < max(moved) < 4.2


def frequency_of(x: torch.Tensor) -> float:
    """Frequency in Hz of the strongest component below 1 kHz, from a parabola through the peak of the log spectrum."""
    n = 1 << 17
    spectrum = torch.fft.rfft(x.double() * torch.hann_window(len(x), dtype=torch.float64), n).abs().log()
    peak = int(spectrum[: n * 1000 // SAMPLE_RATE].argmax())
    a, b, c = spectrum[peak - 1 : peak + 2].tolist()
    return (peak + 0.5 * (a - c) / (a - 2 * b + c)) * SAMPLE_RATE / n


def test_the_fast_length_is_the_smallest():
    def smooth(n: int) -> bool:
        for prime in (2, 3, 5):
            while n % prime == 0:
                n //= prime
        return n == 1

    for n in range(1, 2000):
        assert dsp.fast_length(n) == next(m for m in range(n, 2 * n + 1) if smooth(m))


def test_sounds_are_forgotten_when_the_cache_is_full(noise_folder, monkeypatch):
    monkeypatch.setattr("hw_asr.augmentations.folder.CACHE_SECONDS", 0.4)
    small = BackgroundNoise(str(noise_folder), SAMPLE_RATE, p=1.0)
    first = [small(speech_like(3000), seeded(seed)) for seed in range(8)]
    assert sum(map(len, small.sounds._cache.values())) <= 40000
    assert len(small.sounds._cache) == 1
    monkeypatch.undo()
    large = BackgroundNoise(str(noise_folder), SAMPLE_RATE, p=1.0)
    for seed, out in enumerate(first):
        torch.testing.assert_close(out, large(speech_like(3000), seeded(seed)), rtol=0, atol=0)


def test_mistakes_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="Gain: min_db = 3 is above max_db = 1"):
        Gain(3.0, 1.0)
    with pytest.raises(ConfigError, match=r"Reverberation: folder .*nowhere' does not exist"):
        Reverberation(str(tmp_path / "nowhere"), SAMPLE_RATE)
    with pytest.raises(ConfigError, match="BackgroundNoise: no audio file"):
        BackgroundNoise(str(tmp_path), SAMPLE_RATE)
    with pytest.raises(ConfigError, match="factors is empty"):
        SpeedPerturbation(())
    with pytest.raises(ConfigError, match=r"factor 1\.00123 is not a multiple of 0\.01"):
        SpeedPerturbation((1.00123,))
    with pytest.raises(ConfigError, match="more than 12 semitones"):
        PitchShift(SAMPLE_RATE, -20.0, 0.0)
    audio.save(tmp_path / "empty.wav", torch.zeros(0), SAMPLE_RATE)
    with pytest.raises(DataError, match=r"BackgroundNoise: .*empty\.wav"):
        BackgroundNoise(str(tmp_path), SAMPLE_RATE, p=1.0)(torch.ones(10), seeded())


def test_spectrogram_and_waveform_augmentations_say_what_they_are():
    assert SpecAugment.domain == "spectrogram"
    assert Gain.domain == "waveform"
