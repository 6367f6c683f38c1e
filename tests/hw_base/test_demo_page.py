"""The demo in a browser: a file is uploaded and its text read, a text is said; what cannot be used gets a message."""

import pytest

from hw_base import demo
from hw_base.audio import io as audio
from hw_base.demos.contract import Limits
from hw_base.errors import ConfigError, DataError
from tests.browser import chromium, look, wait_for
from tests.conftest import ROOT

RUNS = ROOT / "tests" / "data" / "first_edition"
ASR, TTS = RUNS / "ds2" / "checkpoint-00000008.pth", RUNS / "fastspeech2" / "checkpoint-00000004.pth"
BODY = "return document.body.innerText"


@pytest.fixture
def recording(tmp_path):
    import torch

    audio.save(tmp_path / "speech.wav", 0.1 * torch.randn(16000).clamp(-3, 3), 16000)
    return str(tmp_path / "speech.wav")


def test_limits_and_bad_files_are_told_without_paths(recording, tmp_path):
    from hw_asr.evaluation import demo as asr_demo
    from hw_asr.recognizer import load

    recognizers = asr_demo._by_decoder(load(ASR, "cpu"))
    texts, words = asr_demo.heard(recognizers, recording, Limits(2.0, 10))
    assert len(texts) == len(recognizers)
    assert all(isinstance(text, str) for text in texts)
    assert all(0 <= confidence <= 1 for *_, confidence in words)
    with pytest.raises(DataError, match=r"too long: at most 0\.5 s"):
        asr_demo.heard(recognizers, recording, Limits(0.5, 10))
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(DataError) as caught:
        asr_demo.heard(recognizers, str(tmp_path / "text.wav"), Limits(2.0, 10))
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(DataError, match="first"):
        asr_demo.heard(recognizers, None, Limits(2.0, 10))


def test_texts_are_said_within_the_limit():
    from hw_tts.evaluation import demo as tts_demo
    from hw_tts.synthesizer import Synthesizer

    synthesizer = Synthesizer.load(TTS)
    (rate, samples), spectrogram, alignment = tts_demo.spoken(
        synthesizer, "ten keys", None, {"speed": 0.5}, Limits(1, 10)
    )
    assert rate == synthesizer.sample_rate
    assert samples.dtype == "int16"
    assert spectrogram.ndim == alignment.ndim == 3
    with pytest.raises(DataError, match="too many: at most 10"):
        tts_demo.spoken(synthesizer, "eleven keys", None, {}, Limits(1, 10))
    with pytest.raises(DataError, match="write something"):
        tts_demo.spoken(synthesizer, "  ", None, {}, Limits(1, 10))


def test_a_checkpoint_that_is_missing_is_one_line(tmp_path, capsys):
    assert demo.main(["-r", str(tmp_path / "none.pth")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_task_without_a_demo_is_named():
    with pytest.raises(ConfigError, match="vocoder"):
        demo.build([str(next(RUNS.glob("hifigan/checkpoint-*.pth")))], "cpu", Limits(1, 1))


def test_a_file_is_uploaded_a_microphone_recorded_and_a_text_said(recording):
    """With two recognizers, which share the recording, beside a synthesizer."""
    pytest.importorskip("gradio", reason="gradio is not installed")
    from selenium.webdriver.common.by import By

    page = demo.build([str(ASR), str(TTS), str(ASR)], "cpu", Limits(20.0, 100))
    address = demo.launch(page, "127.0.0.1", None, 1, block=False)
    press = "return [...document.querySelectorAll('button')].find((b) => b.offsetParent && b.innerText === '{}')"
    # A text of each recognizer.
    filled = "return [...document.querySelectorAll('textarea:disabled')].filter((area) => area.value).length >= 2"
    try:
        with chromium() as window:
            look(window, 1280)
            window.get(address)
            wait_for(window, press.format("Recognize")).click()
            wait_for(window, BODY + ".includes('record something or choose a file first')")
            window.find_element(By.CSS_SELECTOR, "input[type=file]").send_keys(recording)
            wait_for(window, "return document.querySelector('audio, .waveform-container')")
            window.execute_script(press.format("Recognize")).click()
            wait_for(window, filled)
            window.execute_script(press.format("Synthesize")).click()
            pictures = "return [...document.querySelectorAll('img')].filter((i) => i.naturalWidth > 500).length"
            wait_for(window, pictures + " === 2")
            window.get(address)
            wait_for(window, "return document.querySelector('button[aria-label=\"Record audio\"]')").click()
            wait_for(window, press.format("Record")).click()
            # A recording that is stopped before a first sound arrives is none.
            wait_for(window, "const t = document.querySelector('time.duration'); return t && t.innerText !== '0:00'")
            wait_for(window, press.format("Stop")).click()
            wait_for(window, "return document.querySelector('.waveform-container')")
            window.execute_script(press.format("Recognize")).click()
            wait_for(window, filled)
            outside = "return performance.getEntriesByType('resource').map((e) => e.name)"
            assert [
                url for url in window.execute_script(outside) if not url.startswith((address, "data:", "blob:"))
            ] == []
    finally:
        page.close()
