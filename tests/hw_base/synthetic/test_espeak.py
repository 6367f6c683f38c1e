import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from hw_base.errors import ConfigError, DataError, MissingPackageError
from hw_base.synthetic import espeak
from hw_base.synthetic.corpus import default_voices
from hw_base.synthetic.espeak import SAMPLE_RATE, Speaker, Utterance, check_voices

pytest.importorskip("espeakng_loader", reason="the embedded corpus needs espeakng-loader")

FRICATIVES = {"s", "S"}
VOWELS = {"'I", "'0", "'u:", "'aI", "@", "@2"}
TEXTS = ["six foxes see the zoo", "she washes five dishes", "the fish sleeps in this box", "please fix my shoes"]


@pytest.fixture(scope="module")
def speaker():
    with Speaker() as one:
        yield one


def phones_of(speech):
    ends = [at for _, at in speech.phones[1:]] + [len(speech.pcm)]
    return [(symbol, start, end) for (symbol, start), end in zip(speech.phones, ends, strict=True)]


def pitch_of(pcm):
    """Median of the strongest period, over frames of 46 ms that are clearly periodic."""
    found = []
    for start in range(0, len(pcm) - 1024, 512):
        frame = pcm[start : start + 1024].astype(float)
        correlation = np.correlate(frame, frame, "full")[1023:]
        lag = 50 + int(np.argmax(correlation[50:400]))
        if correlation[0] > 1e6 and correlation[lag] > 0.6 * correlation[0]:
            found.append(SAMPLE_RATE / lag)
    return float(np.median(found))


def test_equal_utterances_have_equal_samples_whatever_came_before(speaker):
    utterances = [Utterance(text, voice, seed=7) for text in TEXTS for voice in ("en-us", "en+f2")]
    first = [speaker.say(utterance) for utterance in utterances]
    with Speaker() as other:
        second = [other.say(utterance) for utterance in reversed(utterances)][::-1]
    for one, two in zip(first, second, strict=True):
        assert np.array_equal(one.pcm, two.pcm)
        assert one.phones == two.phones


def test_the_seed_changes_the_breath_noise_and_nothing_else(speaker):
    one, two = (speaker.say(Utterance(TEXTS[0], "en-us+f5", seed=seed)) for seed in (1, 2))
    assert one.phones == two.phones
    assert not np.array_equal(one.pcm, two.pcm)


def test_what_is_said_is_what_was_asked_for(speaker):
    phones = [symbol.strip("',") for symbol, _ in speaker.say(Utterance("seven green birds", "en-us")).phones]
    assert "".join(p for p in phones if not p.startswith("_")) == "sEv@ngri:nb3:dz"


def test_phones_are_in_order_and_inside_the_audio(speaker):
    for text in TEXTS:
        for voice in default_voices("test"):
            speech = speaker.say(Utterance(text, voice))
            starts = [start for _, start in speech.phones]
            assert speech.pcm.dtype == np.int16
            assert starts == sorted(starts)
            assert starts[0] >= 0
            assert starts[-1] <= len(speech.pcm)
            assert len(speech.phones) > 10


def test_phone_times_line_up_with_the_sound(speaker):
    share = {True: [], False: []}
    for text in TEXTS:
        for voice in ("en-us", "en+m3", "en-gb-scotland+f2", "en-us+linda"):
            speech = speaker.say(Utterance(text, voice, rate=150))
            for symbol, start, end in phones_of(speech):
                if (symbol in FRICATIVES or symbol in VOWELS) and end - start > 1000:
                    middle = speech.pcm[start + (end - start) // 4 : end - (end - start) // 4].astype(float)
                    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) ** 2
                    high = np.fft.rfftfreq(len(middle), 1 / SAMPLE_RATE) > 3000
                    share[symbol in FRICATIVES].append(spectrum[high].sum() / (spectrum.sum() + 1e-9))
    assert min(len(share[True]), len(share[False])) > 30
    # A shift by half a phone would mix the two kinds.
    assert min(share[True]) > 0.5
    assert max(share[False]) < 0.3


def test_rate_and_pitch_are_obeyed(speaker):
    slow, fast = (len(speaker.say(Utterance(TEXTS[2], "en-us", rate=rate)).pcm) for rate in (110, 220))
    assert 1.6 < slow / fast < 2.4
    low, high = (pitch_of(speaker.say(Utterance(TEXTS[2], "en-us", pitch=pitch)).pcm) for pitch in (20, 80))
    assert high > 1.3 * low


def test_voices_differ(speaker):
    assert pitch_of(speaker.say(Utterance(TEXTS[2], "en-us+f2")).pcm) > 1.5 * pitch_of(
        speaker.say(Utterance(TEXTS[2], "en-us+m1")).pcm
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("en-uss", "no voice 'en-uss', found in 'en-uss'. Did you mean 'en-us'?"),
        ("en-gb", "no voice 'en-gb', found in 'en-gb'. British English is 'en'."),
        ("en-us+f22", "no variant 'f22', found in 'en-us+f22'. Did you mean 'f2'?"),
        ("en-us+F2", "no variant 'F2', found in 'en-us+F2'. Did you mean 'f2'?"),
        ("en-us+nonexistent", "no variant 'nonexistent', found in 'en-us+nonexistent'."),
        ("en-us+", "no variant '', found in 'en-us+'."),
        ("", "no voice ''"),
        ("EN-US", "no voice 'EN-US', found in 'EN-US'. Did you mean 'en-us'?"),
        ("../en", "no voice '../en'"),
    ],
)
def test_unknown_voices_are_refused(speaker, name, message):
    with pytest.raises(ConfigError) as caught:
        check_voices([name])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError):
        speaker.say(Utterance("hello", name))


def test_all_unknown_voices_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        check_voices(["en-us", "xx", "en+f9", "yy+zz"])
    assert len(str(caught.value).splitlines()) == 4


def test_default_voices_exist():
    check_voices(name for part in ("train", "val", "test") for name in default_voices(part))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_the_library_is_not_loaded_into_this_process(speaker):
    speaker.say(Utterance("hello", "en-us"))
    assert "libespeak" not in Path("/proc/self/maps").read_text()


def test_a_killed_process_is_an_error_and_not_a_hang():
    with Speaker() as doomed:
        doomed.say(Utterance("hello", "en-us"))
        os.kill(doomed._process.pid, signal.SIGKILL)
        doomed._process.wait()
        with pytest.raises(DataError, match="the espeak-ng process has ended"):
            doomed.say(Utterance("hello", "en-us"))


def test_closing_ends_the_process_even_when_another_holds_its_pipe():
    one = Speaker()
    extra = os.dup(one._process.stdin.fileno())
    try:
        one.close()
        one.close()
        assert one._process.returncode is not None
    finally:
        os.close(extra)


def test_a_library_that_cannot_be_loaded_is_a_clear_error(monkeypatch, tmp_path):
    import espeakng_loader

    broken = tmp_path / "libespeak-ng.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: str(broken))
    with pytest.raises(ConfigError, match=r"espeak-ng does not work here: .*libespeak-ng"):
        Speaker()


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingPackageError, match="pip install espeakng-loader"):
        Speaker()


def test_the_version_names_library_and_package():
    assert espeak.version().startswith("espeak-ng 1.")
    assert "espeakng-loader 0." in espeak.version()
