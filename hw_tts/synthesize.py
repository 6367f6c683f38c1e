# PYTHON_ARGCOMPLETE_OK
"""Speak: ``python -m hw_tts.synthesize -r CKPT --text "..." -o DIR``."""

import argparse
import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw_base import distributed
from hw_base.audio import io as audio
from hw_base.errors import ConfigError, DataError
from hw_base.runs import cli, outputs
from hw_base.runs.parser import Parser
from hw_base.texts.files import read_lines, read_transcript, transcript_files
from hw_base.writers.media import png_bytes
from hw_tts.evaluation.pictures import panel, speech_image
from hw_tts.synthesizer import Speech, Synthesizer

# What the course has everybody's model say.
COURSE_SENTENCES = (
    "A defibrillator is a device that gives a high energy electric shock to the heart of someone who is in cardiac "
    "arrest",
    "Massachusetts Institute of Technology may be best known for its math, science and engineering education",
    "Wasserstein distance or Kantorovich Rubinstein metric is a distance function defined between probability "
    "distributions on a given metric space",
)
_COURSE_FACTORS = (0.8, 1.2)


def course_controls() -> dict[str, dict[str, float]]:
    """The nine renders that the course asks for: plain, each control 20 % down and up, all three down and up."""
    names = ("pitch", "speed", "energy")
    renders: dict[str, dict[str, float]] = {"plain": {}}
    for name, factor in itertools.product(names, _COURSE_FACTORS):
        renders[f"{name}_{factor}"] = {name: factor}
    for factor in _COURSE_FACTORS:
        renders[f"all_{factor}"] = dict.fromkeys(names, factor)
    return renders


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = Parser(
        "python -m hw_tts.synthesize", "Speak texts.", ['-r runs/a --text "Ten keys." --speed 1.2 -o speech']
    )
    parser.add_argument("-r", "--resume", metavar="CKPT", required=True, help="checkpoint of a synthesizer")
    parser.add_argument("--vocoder", metavar="CKPT", help="checkpoint of a HiFiGAN (default: Griffin-Lim)")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", help="what to say")
    source.add_argument("--file", metavar="F", help="a text a line, perhaps <id>|<text>")
    source.add_argument("--transcriptions", metavar="DIR", help="folder of <id>.txt or <id>.lab")
    source.add_argument("--course", action="store_true", help="the course's three sentences, each in nine renders")
    source.add_argument("--convert", metavar="WAV", help="say a recording with another voice; needs --from")
    parser.add_argument("--from", dest="source", metavar="NAME", help="who speaks in the recording")
    parser.add_argument("--speaker", metavar="NAME", help="who speaks (default: the first)")
    parser.add_argument("--mix", metavar="A=0.7,B=0.3", help="a voice between speakers")
    for name in ("speed", "pitch", "energy"):
        parser.add_argument(f"--{name}", type=cli.positive(float), help="factor (default: 1)")
    for name in ("noise", "duration-noise"):
        parser.add_argument(
            f"--{name}", type=_deviation, help="deviation of random draws; 0 gives the same speech every time"
        )
    parser.add_argument("-d", "--device", default="auto", help=distributed.DEVICES)
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="where <id>.wav and <id>.png go")
    cli.add_import(parser)
    arguments = parser.parse_args(argv)
    return cli.run(lambda: _speak(arguments), arguments.imports)


def _deviation(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected 0 or more, found {text}")
    return value


def _speak(arguments: argparse.Namespace) -> int:
    _refuse_unused(arguments)
    texts = {} if arguments.convert else _texts(arguments)
    synthesizer = Synthesizer.load(arguments.resume, arguments.vocoder, distributed.start(arguments.device))
    if arguments.convert:
        return _convert(arguments, synthesizer)
    given = {name: vars(arguments)[name] for name in ("speed", "pitch", "energy", "noise", "duration_noise")}
    controls: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if arguments.mix:
        controls |= synthesizer.mixed(_fractions(arguments.mix))
    renders = course_controls() if arguments.course else {"": {}}
    folder = Path(arguments.output)
    for identifier, text in texts.items():
        for render, changed in renders.items():
            speech = synthesizer.say([text], arguments.speaker, **controls, **changed)[0]
            name = f"{identifier}_{render}" if render else identifier
            _write(folder, name, text, speech, synthesizer)
    return 0


def _refuse_unused(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for options that would change nothing beside the others."""
    pairs = [("mix", "speaker"), *(("course", name) for name in ("speed", "pitch", "energy"))]
    pairs += [("convert", name) for name in ("speed", "pitch", "energy", "duration_noise", "vocoder")]
    for one, other in pairs:
        if vars(arguments)[one] and vars(arguments)[other] is not None:
            raise ConfigError(f"--{other.replace('_', '-')} has no effect beside --{one}: leave one of the two out")
    if arguments.source and not arguments.convert:
        raise ConfigError("--from: goes with --convert WAV, the recording of this speaker")


def _convert(arguments: argparse.Namespace, synthesizer: Synthesizer) -> int:
    if not arguments.source or not (arguments.speaker or arguments.mix):
        raise ConfigError("--convert: say who speaks in the recording (--from NAME) and who shall (--speaker or --mix)")
    target = arguments.speaker or _fractions(arguments.mix)
    noise = {} if arguments.noise is None else {"noise": arguments.noise}
    waveform, rate = audio.load(arguments.convert)
    converted = synthesizer.convert(waveform, rate, arguments.source, target, **noise)
    voice = arguments.speaker or "mixed"
    name, title = (
        f"{Path(arguments.convert).stem}_{voice}",
        f"{arguments.source} as {arguments.speaker or arguments.mix}",
    )
    _write(Path(arguments.output), name, title, Speech(converted, None), synthesizer)
    return 0


def _fractions(text: str) -> dict[str, float]:
    """``A=0.7,B=0.3`` as numbers."""
    fractions: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.rpartition("=")
        try:
            fraction = float(number)
        except ValueError:
            fraction = math.nan
        if not math.isfinite(fraction) or name.strip() in fractions:
            raise ConfigError(f"--mix {text}: expected NAME=WEIGHT,NAME=WEIGHT, each name once, found {part!r}")
        fractions[name.strip()] = fraction
    return fractions


def _write(folder: Path, name: str, text: str, speech: Speech, synthesizer: Synthesizer) -> None:
    waveform, path = speech.waveform, folder / outputs.file_name(name, ".wav")
    features = synthesizer.task.features
    try:
        folder.mkdir(parents=True, exist_ok=True)
        audio.save(path, waveform, synthesizer.sample_rate)
        shown = panel(text, waveform, features, speech.phones)
        if shown is not None:
            picture = speech_image([shown], features.hop_length / features.sample_rate)
            path.with_suffix(".png").write_bytes(png_bytes(picture))
    except OSError as error:
        raise ConfigError(f"--output {folder}: cannot be written: {error.strerror}") from None
    print(f"{path}: {len(waveform) / synthesizer.sample_rate:.2f} s, {text!r}")


def _texts(arguments: argparse.Namespace) -> dict[str, str]:
    """Texts by id.

    Raises:
        ConfigError: a file is missing, is no text, or there is nothing in it.
    """
    if arguments.course:
        return {f"sentence_{i}": text for i, text in enumerate(COURSE_SENTENCES, start=1)}
    if arguments.text is not None:
        return {"speech": _said(arguments.text, "--text")}
    if arguments.file is not None:
        texts: dict[str, str] = {}
        for i, line in enumerate(_lines(arguments.file), start=1):
            identifier, bar, text = line.partition("|")
            if line.strip():
                identifier, text = (identifier.strip(), text) if bar else (f"{i:04d}", line)
                if identifier in texts:
                    raise ConfigError(f"--file {arguments.file}, line {i}: the id {identifier!r} appears twice")
                texts[identifier] = _said(text, f"--file {arguments.file}, line {i}")
    else:
        folder = Path(arguments.transcriptions)
        if not folder.is_dir():
            raise ConfigError(f"--transcriptions {folder}: there is no such folder")
        texts = {name: _said(read_transcript(file), str(file)) for name, file in transcript_files(folder).items()}
    if not texts:
        raise ConfigError(f"nothing to say: no text in {arguments.file or arguments.transcriptions}")
    return texts


def _lines(path: str) -> list[str]:
    try:
        return read_lines(path)
    except DataError as error:
        raise ConfigError(f"--file {error}") from None


def _said(text: str, where: str) -> str:
    if not text.strip():
        raise ConfigError(f"{where}: the text is empty")
    return text.strip()


if __name__ == "__main__":
    sys.exit(main())
