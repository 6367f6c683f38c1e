"""A recognizer in the demo: a recording in, the text of every decoder, its words with times and confidence."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw_asr.decoders import GreedyDecoder
from hw_asr.recognizer import CTCRecognizer, load
from hw_base.audio import io as audio
from hw_base.config.resolve import build
from hw_base.demos.contract import Limits, TaskDemo, heading
from hw_base.errors import DataError, HwError
from hw_base.registry import DECODERS

Rows = list[list[str | float]]


class ASRDemo(TaskDemo):
    """See `TaskDemo`."""

    def build(self, paths: Sequence[Path], device: str, limits: Limits) -> None:
        """Recording or file, a button; for each checkpoint the text of every decoder, and a table of words."""
        import gradio

        opened = [_by_decoder(load(path, device)) for path in paths]

        def recognize(file: str | None) -> list[Any]:
            try:
                found = [heard(recognizers, file, limits) for recognizers in opened]
                return [value for texts, words in found for value in (*texts, words)]
            except HwError as error:
                raise gradio.Error(str(error)) from None

        recording = gradio.Audio(
            sources=["upload", "microphone"], type="filepath", label="recording", buttons=["download"]
        )
        button = gradio.Button("Recognize", variant="primary")
        shown: list[Any] = []
        with gradio.Row():
            for path, recognizers in zip(paths, opened, strict=True):
                with gradio.Column(min_width=320):
                    gradio.HTML(heading(path))
                    shown += [gradio.Textbox(label=name, interactive=False, lines=2) for name in recognizers]
                    headers = _columns(recognizers)
                    shown.append(gradio.Dataframe(headers=headers, label="words, seconds", interactive=False))
        button.click(recognize, recording, shown)


DEMO = ASRDemo()


def _columns(recognizers: dict[str, CTCRecognizer]) -> list[str]:
    """Of the table of words; a single decoder is not named in each row."""
    return [*(["decoder"] if len(recognizers) > 1 else []), "word", "start", "end", "confidence"]


def heard(recognizers: dict[str, CTCRecognizer], file: str | None, limits: Limits) -> tuple[list[str], Rows]:
    """The text of each decoder; the words of all, as `_columns` has them.

    Raises:
        DataError: no recording, too long, or unreadable.
    """
    if not file:
        raise DataError("record something or choose a file first")
    try:
        seconds = audio.info(file).duration
        if seconds > limits.seconds:
            raise DataError(f"{seconds:.0f} s are too long: at most {limits.seconds:g} s")
        parts = list(next(iter(recognizers.values())).parts_of_file(file))
    except DataError as error:
        raise DataError(str(error).replace(f"{file}: ", "")) from None  # the visitor knows no path of the server
    texts: list[str] = []
    words: Rows = []
    for name, recognizer in recognizers.items():
        transcript = recognizer.decoded(parts, seconds)
        texts.append(transcript.text)
        rows: Rows = [[name, word.text, word.start, word.end, round(word.confidence, 3)] for word in transcript.words]
        words += [row[-len(_columns(recognizers)) :] for row in rows]
    return texts, words


def _by_decoder(recognizer: CTCRecognizer) -> dict[str, CTCRecognizer]:
    """One for each decoder of the config, with the same model."""
    encoder, sections = recognizer.text_encoder, recognizer.config.decoders
    built = {name: build(f"decoders.{name}", one, DECODERS, text_encoder=encoder) for name, one in sections.items()}
    found = {}
    for name, decoder in (built or {"argmax": GreedyDecoder(encoder)}).items():
        decoder.bind(recognizer.model)
        found[name] = copy.copy(recognizer)
        found[name].decoder = decoder
    return found
