"""A synthesizer in the demo: a text in, audio and its log-mel spectrogram out."""

import inspect
from pathlib import Path
from typing import Any

from hw_base import distributed
from hw_base.demos import Limits, TaskDemo
from hw_base.errors import DataError, HwError
from hw_base.writers import plots
from hw_tts.synthesizer import Synthesizer

_CONTROLS = ("speed", "pitch", "energy")


class TTSDemo(TaskDemo):
    """See `TaskDemo`."""

    def build(self, path: Path, device: str, limits: Limits) -> None:
        """Text, voice, the model's controls, a button, audio and picture."""
        import gradio

        synthesizer = Synthesizer.load(path, device=distributed.choose_device(device))
        known = inspect.signature(synthesizer.model.synthesize).parameters
        names = [name for name in _CONTROLS if name in known]

        def say(text: str, speaker: str | None, *factors: float) -> tuple[Any, Any]:
            try:
                return spoken(synthesizer, text, speaker, dict(zip(names, factors, strict=True)), limits)
            except HwError as error:
                raise gradio.Error(str(error)) from None

        text = gradio.Textbox("Ten keys.", label="text", lines=3, max_length=limits.characters)
        voices = synthesizer.speakers
        voice = gradio.Dropdown(voices, value=voices[0] if voices else None, label="voice", visible=bool(voices))
        sliders = [gradio.Slider(0.5, 2.0, value=1.0, step=0.05, label=name) for name in names]
        button = gradio.Button("Synthesize", variant="primary")
        sound = gradio.Audio(label="speech", format="wav", interactive=False, buttons=["download"])
        picture = gradio.Image(label="log-mel spectrogram", interactive=False, buttons=["download", "fullscreen"])
        button.click(say, [text, voice, *sliders], [sound, picture])


DEMO = TTSDemo()


def spoken(
    synthesizer: Synthesizer, text: str, speaker: str | None, controls: dict[str, float], limits: Limits
) -> tuple[tuple[int, Any], Any]:
    """Rate and 16-bit samples; the picture, None of audio that is too short for one.

    Raises:
        DataError: nothing to say, or too much.
    """
    if not text.strip():
        raise DataError("write something first")
    if len(text) > limits.characters:  # the page's own bound binds only those who use the page
        raise DataError(f"{len(text)} characters are too many: at most {limits.characters}")
    waveform = synthesizer.speak_batch([text], speaker, **controls)[0]
    features = synthesizer.task.features
    picture = None
    if len(waveform) >= features.min_samples:
        seconds = features.hop_length / features.sample_rate
        picture = plots.spectrogram_image(features(waveform), text, seconds, "mel band")
    return (synthesizer.sample_rate, (waveform * 32767).short().numpy()), picture
