"""What every augmentation keeps to."""

import inspect

import torch
from torch import Tensor

from hw_asr.augmentations.base import BaseAugmentation
from hw_base.checks import Candidate, Contract, Outcome, declare, expect, samples
from hw_base.errors import ConfigError

AUGMENTATION: Contract[Candidate] = Contract("augmentation")

SAMPLE_RATE = 16000
# The signal may become so much louder (40 dB), and so much longer or shorter.
_MAX_GAIN, _MAX_RATIO = 100.0, 2.0
_N_DRAWS = 12


def check_augmentation(candidate: Candidate) -> list[Outcome]:
    """All properties of an augmentation."""
    return AUGMENTATION.check(candidate)


def _augmentation(candidate: Candidate) -> BaseAugmentation:
    """One that always acts, where its arguments allow that."""
    args = dict(candidate.args)
    if "p" in inspect.signature(candidate.target).parameters:
        args["p"] = 1.0
    made: BaseAugmentation = Candidate(candidate.name, candidate.target, args).build(sample_rate=SAMPLE_RATE)
    if made.domain not in ("waveform", "spectrogram"):
        raise ConfigError(f"domain is {made.domain!r}; expected 'waveform' or 'spectrogram'")
    return made


def _signal(augmentation: BaseAugmentation, length: int, seed: int = 0) -> Tensor:
    """Speech-like, of so many samples or frames."""
    if augmentation.domain == "waveform":
        return samples.waveform(length, SAMPLE_RATE, seed)
    return torch.randn(40, length, generator=torch.Generator().manual_seed(seed))


def _lengths(augmentation: BaseAugmentation) -> list[int]:
    return [8000, 12345, 400, 2, 1] if augmentation.domain == "waveform" else [100, 37, 2, 1]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@AUGMENTATION.property("the signal is cut, padded or resampled, and keeps_length still says True")
def the_length_is_as_it_says(candidate: Candidate) -> None:
    augmentation = _augmentation(candidate)
    for n in _lengths(augmentation):
        for seed in range(_N_DRAWS):
            x = _signal(augmentation, n)
            out = augmentation(x, _generator(seed))
            expect(out.shape[:-1] == x.shape[:-1], f"shape {tuple(x.shape)}", tuple(out.shape))
            found = out.shape[-1]
            if augmentation.keeps_length:
                expect(found == n, f"{n} samples or frames, because keeps_length is True", found)
            else:
                fits = n / _MAX_RATIO - 1 <= found <= n * _MAX_RATIO + 1
                expect(fits, f"a length near {n}, so that the transcript still fits", found)


@AUGMENTATION.property("random numbers that do not come from the generator of the call (torch.rand, random, numpy)")
def the_same_generator_gives_the_same_result(candidate: Candidate) -> None:
    augmentation = _augmentation(candidate)
    x = _signal(augmentation, _lengths(augmentation)[0])
    before = torch.get_rng_state()
    for seed in range(_N_DRAWS):
        first, second = (augmentation(x, _generator(seed)) for _ in range(2))
        expect(torch.equal(first, second), "equal results of equal generators", "different ones")
    expect(torch.equal(before, torch.get_rng_state()), "the global random state left alone", "numbers drawn from it")


@AUGMENTATION.property("the generator is not used, or is seeded anew at each call, so that all utterances change alike")
def other_generators_give_other_results(candidate: Candidate) -> None:
    augmentation = _augmentation(candidate)
    x = _signal(augmentation, _lengths(augmentation)[0])
    results = [augmentation(x, _generator(seed)) for seed in range(2 * _N_DRAWS)]
    first = results[0]
    differ = any(one.shape != first.shape or not torch.equal(one, first) for one in results[1:])
    expect(differ, f"different results of {2 * _N_DRAWS} generators", "always the same")


@AUGMENTATION.property("a division by the level of silence, a logarithm of zero, or a window longer than the signal")
def silence_and_single_samples_stay_finite(candidate: Candidate) -> None:
    augmentation = _augmentation(candidate)
    for n in _lengths(augmentation):
        for x in (_signal(augmentation, n), torch.zeros_like(_signal(augmentation, n))):
            for seed in range(_N_DRAWS):
                out = augmentation(x, _generator(seed))
                expect(torch.isfinite(out).all(), f"finite values of {n} samples or frames", "NaN or infinity")
    nothing = augmentation(_signal(augmentation, 1)[..., :0], _generator(0))
    expect(nothing.shape[-1] == 0, "nothing to stay nothing", tuple(nothing.shape))


@AUGMENTATION.property("decibels used as a factor, or a filter with gain")
def the_level_is_bounded(candidate: Candidate) -> None:
    augmentation = _augmentation(candidate)
    for seed in range(_N_DRAWS):
        x = _signal(augmentation, _lengths(augmentation)[0], seed)
        ratio = float(augmentation(x, _generator(seed)).abs().max() / x.abs().max())
        expect(ratio <= _MAX_GAIN, f"a peak of at most {_MAX_GAIN:g} times the input's", f"{ratio:.3g} times")


@AUGMENTATION.property("a mask, filter or noise that leaves nothing of the speech")
def speech_is_left(candidate: Candidate) -> None:
    augmentation = _augmentation(candidate)
    for seed in range(_N_DRAWS):
        x = _signal(augmentation, _lengths(augmentation)[0], seed)
        out = augmentation(x, _generator(seed))
        expect(
            float(out.std()) > 1e-3 * float(x.std()), "a signal that still varies", f"deviation {float(out.std()):.3g}"
        )


@AUGMENTATION.property("an operation in place (add_, clamp_, masked_fill_) on the signal that was given")
def the_signal_is_not_changed_in_place(candidate: Candidate) -> None:
    augmentation = _augmentation(candidate)
    for n in _lengths(augmentation):
        x = _signal(augmentation, n)
        before = x.clone()
        out = augmentation(x, _generator(1))
        expect(torch.equal(x, before), "the given signal left as it is", "it was changed in place")
        expect(out.dtype == x.dtype, f"{x.dtype}", out.dtype)


@AUGMENTATION.property("p is not looked at, or what is drawn before p depends on it")
def with_probability_zero_nothing_changes(candidate: Candidate) -> None:
    if "p" not in inspect.signature(candidate.target).parameters:
        return
    still = Candidate(candidate.name, candidate.target, {**candidate.args, "p": 0.0}).build(sample_rate=SAMPLE_RATE)
    x = _signal(still, _lengths(still)[0])
    expect(torch.equal(still(x, _generator(0)), x), "p = 0 to leave the signal as it is", "a changed one")


declare("augmentations", check_augmentation, BaseAugmentation)
