# PYTHON_ARGCOMPLETE_OK
"""Recognize speech: ``python -m hw_asr.recognize -r CKPT FILES or FOLDER ... [-o DIR] [--format txt|json|srt|vtt]``."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from hw_asr.recognizer import WINDOW_SECONDS, CTCRecognizer, load
from hw_asr.transcript import Transcript, Word
from hw_base import distributed
from hw_base.audio import io as audio
from hw_base.datasets.names import ids_from_paths
from hw_base.errors import ConfigError, DataError
from hw_base.runs import cli
from hw_base.runs.parser import Parser

# A subtitle has so many characters and seconds at most, and no longer pause in it.
_CHARACTERS, _SECONDS, _PAUSE = 84, 7.0, 1.0
_STDIN = "-"


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 2 if a recording could not be recognized."""
    parser = Parser(
        "python -m hw_asr.recognize",
        "Recognize recordings.",
        ["-r runs/a speech.wav", "-r runs/a recordings -o transcripts"],
    )
    parser.add_argument("-r", "--resume", metavar="CKPT", required=True, help="checkpoint of a recognizer")
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="recordings, folders of them, - for a WAV on stdin")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="a file for each (default: all to stdout)")
    parser.add_argument(
        "--format", choices=sorted(FORMATS), default="txt", help="text, words with times, or subtitles (default: txt)"
    )
    parser.add_argument("--decoder", metavar="NAME", help="of the config (default: its primary one)")
    parser.add_argument("-c", "--config", metavar="FILE", help="JSON or YAML config laid over the checkpoint's")
    cli.add_set(parser, "change a key, for example --set 'decoders.beam={type: BeamSearch, args: {lm: lm.arpa}}'")
    parser.add_argument("-d", "--device", default="auto", help=distributed.DEVICES)
    cli.add_import(parser)
    arguments = parser.parse_args(argv)
    return cli.run(lambda: _recognize(arguments), arguments.imports)


def _recognize(arguments: argparse.Namespace) -> int:
    recognizer = load(arguments.resume, arguments.device, arguments.decoder, arguments.config, arguments.set)
    found = [(path, fault) for one in arguments.inputs for path, fault in _recordings(one)]
    names = ids_from_paths([path for path, _ in found], Path.cwd(), whole=False)
    several, failed = len(found) > 1, 0
    for index, ((path, fault), name) in enumerate(zip(found, names, strict=True), start=1):
        try:
            if fault is not None:
                raise DataError(f"{path}: {fault}")
            transcript = _heard(recognizer, path, f"{index}/{len(found)} {Path(path).name}")
        except DataError as error:
            failed += 1
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            continue
        text = FORMATS[arguments.format](transcript, path)
        if arguments.output is None:
            print(f"{path}\t{text}" if several and arguments.format == "txt" else text, flush=True)
        else:
            _write(arguments.output / f"{'stdin' if path == _STDIN else name}.{arguments.format}", text)
    if failed and several:
        print(f"error: {failed} of {len(found)} could not be recognized", file=sys.stderr)
    return 2 if failed else 0


def _recordings(given: str) -> Iterator[tuple[str, str | None]]:
    """The audio files that an argument stands for, each with what is wrong with it."""
    if given != _STDIN and Path(given).is_dir():
        files = [Path(folder, name) for folder, _, names in os.walk(given) for name in names]
        files = sorted(f for f in files if f.suffix.lower() in audio.EXTENSIONS and not f.name.startswith("."))
        yield from ((str(file), None) for file in files)
        if not files:
            yield given, f"a folder without audio (looked for {', '.join(audio.EXTENSIONS)})"
    else:
        yield given, None


def _heard(recognizer: CTCRecognizer, path: str, title: str) -> Transcript:
    """The transcript of a file, with a progress bar on a terminal if it is long."""
    if path == _STDIN:
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            while block := sys.stdin.buffer.read(1 << 20):
                file.write(block)
            file.flush()
            return _heard(recognizer, file.name, title)
    seconds = audio.info(path).duration
    windows = -(-int(seconds) // WINDOW_SECONDS)
    parts = recognizer.parts_of_file(path)
    return recognizer.decoded(tqdm(parts, title, windows, leave=False, disable=None, unit="min"), seconds)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--output {path}: cannot be written: {error.strerror}") from None
    print(path, flush=True)


def _text(transcript: Transcript, path: str) -> str:
    return transcript.text


def _json(transcript: Transcript, path: str) -> str:
    """One line: file, seconds, text, and each word with its times and confidence."""
    words = [{**asdict(word), "confidence": round(word.confidence, 4)} for word in transcript.words]
    about = {"file": path, "seconds": round(transcript.seconds, 3), "text": transcript.text, "words": words}
    return json.dumps(about, ensure_ascii=False)


def _subtitles(transcript: Transcript) -> list[tuple[float, float, str]]:
    """(start, end, text) of each subtitle; one for everything where the decoder gives no times."""
    if not transcript.words:
        return [(0.0, transcript.seconds, transcript.text)] if transcript.text else []
    groups: list[list[Word]] = []
    for word in transcript.words:
        group = groups[-1] if groups else []
        length = sum(len(other.text) + 1 for other in group) + len(word.text)
        fits = group and word.end - group[0].start <= _SECONDS and word.start - group[-1].end <= _PAUSE
        if fits and length <= _CHARACTERS:
            group.append(word)
        else:
            groups.append([word])
    return [(group[0].start, group[-1].end, " ".join(word.text for word in group)) for group in groups]


def _srt(transcript: Transcript, path: str) -> str:
    """SubRip."""
    lines = []
    for number, (start, end, text) in enumerate(_subtitles(transcript), start=1):
        lines.append(f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n")
    return "\n".join(lines)


def _vtt(transcript: Transcript, path: str) -> str:
    """WebVTT (W3C); a vocabulary may have the characters that it escapes."""
    lines = ["WEBVTT\n"]
    for start, end, text in _subtitles(transcript):
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        lines.append(f"{_clock(start, '.')} --> {_clock(end, '.')}\n{escaped}\n")
    return "\n".join(lines)


def _clock(seconds: float, point: str) -> str:
    total = round(seconds * 1000)
    return f"{total // 3_600_000:02d}:{total // 60_000 % 60:02d}:{total // 1000 % 60:02d}{point}{total % 1000:03d}"


FORMATS: dict[str, Callable[[Transcript, str], str]] = {"txt": _text, "json": _json, "srt": _srt, "vtt": _vtt}


if __name__ == "__main__":
    sys.exit(main())
