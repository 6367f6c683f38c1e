"""A synthesizer in the demo: a text in; audio, its spectrogram with durations and pitch, and its alignment out."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hw_base import distributed
from hw_base.demos.contract import Limits, TaskDemo, heading
from hw_base.errors import DataError, HwError
from hw_base.writers.plots import Image
from hw_tts.evaluation.pictures import alignment_image, hard_weights, panel, speech_image
from hw_tts.synthesizer import Speech, Synthesizer

_CONTROLS = ("speed", "pitch", "energy")


class TTSDemo(TaskDemo):
    """See `TaskDemo`."""

    def build(self, paths: Sequence[Path], device: str, limits: Limits) -> None:
        """Text, a button; for each checkpoint voice and controls, audio and pictures."""
        import gradio

        text = gradio.Textbox("Ten keys.", label="text", lines=3, max_length=limits.characters)
        button = gradio.Button("Synthesize", variant="primary")
        with gradio.Row():
            for path in paths:
                with gradio.Column(min_width=320):
                    gradio.HTML(heading(path))
                    self._add(Synthesizer.load(path, device=distributed.choose_device(device)), text, button, limits)

    def _add(self, synthesizer: Synthesizer, text: Any, button: Any, limits: Limits) -> None:
        """One synthesizer, which says the text when the button is pressed."""
        import gradio

        known = inspect.signature(synthesizer.model.synthesize).parameters
        names = [name for name in _CONTROLS if name in known]

        def say(text: str, speaker: str | None, *factors: float) -> tuple[Any, Any, Any]:
            try:
                return spoken(synthesizer, text, speaker, dict(zip(names, factors, strict=True)), limits)
            except HwError as error:
                raise gradio.Error(str(error)) from None

        voices = synthesizer.speakers
        voice = gradio.Dropdown(voices, value=voices[0] if voices else None, label="voice", visible=bool(voices))
        sliders = [gradio.Slider(0.5, 2.0, value=1.0, step=0.05, label=name) for name in names]
        sound = gradio.Audio(label="speech", format="wav", interactive=False, buttons=["download"])
        pictures = [
            gradio.Image(label=one, show_label=False, interactive=False, buttons=["download", "fullscreen"])
            for one in ("spectrogram", "alignment")
        ]
        button.click(say, [text, voice, *sliders], [sound, *pictures])


DEMO = TTSDemo()


def spoken(
    synthesizer: Synthesizer, text: str, speaker: str | None, controls: dict[str, float], limits: Limits
) -> tuple[tuple[int, Any], Image | None, Image | None]:
    """Rate and 16-bit samples; spectrogram and alignment, None of what cannot be drawn.

    Raises:
        DataError: nothing to say, or too much.
    """
    if not text.strip():
        raise DataError("write something first")
    if len(text) > limits.characters:  # the page's own bound binds only those who use the page
        raise DataError(f"{len(text)} characters are too many: at most {limits.characters}")
    speech = synthesizer.say([text], speaker, **controls)[0]
    return (synthesizer.sample_rate, (speech.waveform * 32767).short().numpy()), *_drawn(synthesizer, text, speech)


def _drawn(synthesizer: Synthesizer, text: str, speech: Speech) -> tuple[Image | None, Image | None]:
    features = synthesizer.task.features
    seconds = features.hop_length / features.sample_rate
    shown = panel(text, speech.waveform, features, speech.phones)
    spectrogram = speech_image([shown], seconds) if shown is not None else None
    if not speech.phones:
        return spectrogram, None
    durations = torch.tensor([round((end - start) / seconds) for _, start, end in speech.phones])
    if not durations.any():
        return spectrogram, None
    symbols = [symbol for symbol, _, _ in speech.phones]
    return spectrogram, alignment_image(symbols, hard_weights(durations), seconds, title="alignment")
