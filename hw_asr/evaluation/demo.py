"""A recognizer in the demo: a recording in, the text of every decoder, its words with times and confidence."""

import copy
from collections.abc import Sequence
from pathlib import Path

from hw_asr.decoders import GreedyDecoder
from hw_asr.recognizer import CTCRecognizer, load
from hw_base.audio import io as audio
from hw_base.config.resolve import build
from hw_base.demos import Limits, TaskDemo, heading
from hw_base.errors import DataError, HwError
from hw_base.registry import DECODERS

Rows = list[list[str | float]]
_TABLES = {"text": ["decoder", "text"], "words": ["decoder", "word", "start, s", "end, s", "confidence"]}


class ASRDemo(TaskDemo):
    """See `TaskDemo`."""

    def build(self, paths: Sequence[Path], device: str, limits: Limits) -> None:
        """Recording or file, a button; two tables for each checkpoint."""
        import gradio

        opened = [_by_decoder(load(path, device)) for path in paths]

        def recognize(file: str | None) -> list[Rows]:
            try:
                return [table for recognizers in opened for table in heard(recognizers, file, limits)]
            except HwError as error:
                raise gradio.Error(str(error)) from None

        recording = gradio.Audio(
            sources=["upload", "microphone"], type="filepath", label="recording", buttons=["download"]
        )
        button = gradio.Button("Recognize", variant="primary")
        tables = []
        with gradio.Row():
            for path in paths:
                with gradio.Column(min_width=320):
                    gradio.HTML(heading(path))
                    for label, headers in _TABLES.items():
                        tables.append(gradio.Dataframe(headers=headers, label=label, interactive=False, wrap=True))
        button.click(recognize, recording, tables)


DEMO = ASRDemo()


def heard(recognizers: dict[str, CTCRecognizer], file: str | None, limits: Limits) -> tuple[Rows, Rows]:
    """Decoder and text; decoder, word, start, end and confidence.

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
    texts: Rows = []
    words: Rows = []
    for name, recognizer in recognizers.items():
        transcript = recognizer.decoded(parts, seconds)
        texts.append([name, transcript.text])
        words += [[name, word.text, word.start, word.end, round(word.confidence, 3)] for word in transcript.words]
    return texts, words


def _by_decoder(recognizer: CTCRecognizer) -> dict[str, CTCRecognizer]:
    """One for each decoder of the config, with the same model."""
    encoder, sections = recognizer.text_encoder, recognizer.config.decoders
    built = {name: build(f"decoders.{name}", one, DECODERS, text_encoder=encoder) for name, one in sections.items()}
    found = {}
    for name, decoder in (built or {"argmax": GreedyDecoder(encoder)}).items():
        found[name] = copy.copy(recognizer)
        found[name].decoder = decoder
    return found
