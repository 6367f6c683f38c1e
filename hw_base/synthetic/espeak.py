"""English speech from libespeak-ng, spoken outside this process: 16-bit samples and where each phone starts.

The package ``espeakng-loader`` brings the library (GPL-3, see NOTICE); nothing of it is loaded here.
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_base.errors import ConfigError, DataError, MissingPackageError
from hw_base.registry import suggest

SAMPLE_RATE = 22050
_PACKAGE = "espeakng_loader"
_WORKER = Path(__file__).with_name("espeak_worker.py")


@dataclass(frozen=True, slots=True)
class Utterance:
    """What to say and how.

    Attributes:
        text: one sentence.
        voice: name of a voice, or ``voice+variant``; see `check_voices`.
        rate: words a minute, 80 to 450.
        pitch: 0 to 99; 50 is the voice's own.
        seed: of the noise in a voice's breath; equal utterances have equal samples.
        level: in dB above the voice's own.
    """

    text: str
    voice: str
    rate: int = 175
    pitch: int = 50
    seed: int = 0
    level: float = 0.0


@dataclass(frozen=True, slots=True)
class Speech:
    """What was said.

    Attributes:
        pcm: (S,), int16, at `SAMPLE_RATE`.
        phones: espeak's symbol and the sample at which the phone starts, in the order of time. A stressed vowel has
            ``'`` or ``,`` before its symbol; pauses begin with ``_``. Two phones may start at the same sample.
    """

    pcm: NDArray[np.int16]
    phones: tuple[tuple[str, int], ...]


class Speaker:
    """One process that speaks, one utterance at a time; several speakers work side by side.

    Use it as a context manager, from one thread at a time.

    Attributes:
        version (str): of the library.

    Raises:
        MissingPackageError: espeakng-loader is not installed.
        ConfigError: its library does not work on this machine.
    """

    def __init__(self) -> None:
        loader = _loader()
        arguments = [str(_WORKER), str(loader.get_library_path()), str(loader.get_data_path())]
        # -I: the program sees the standard library alone, whatever lies in the working folder or in PYTHONPATH.
        self._process = subprocess.Popen(
            [sys.executable, "-I", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            hello = self._read_header()
            if "error" in hello or hello["sample_rate"] != SAMPLE_RATE:
                raise ConfigError(f"espeak-ng does not work here: {hello.get('error', hello)}")
        except BaseException:
            self.close()
            raise
        self.version = str(hello["version"])

    def say(self, utterance: Utterance) -> Speech:
        """Speak one sentence.

        Raises:
            ConfigError: unknown voice or variant.
            DataError: the library failed; the message names text and voice.
        """
        check_voices([utterance.voice])
        request = asdict(utterance)
        request.pop("level")
        header = self._ask(request)
        if "error" in header:
            raise DataError(f"{header['error']}: {utterance}")
        assert self._process.stdout is not None
        raw = self._process.stdout.read(header["n_bytes"])
        if len(raw) != header["n_bytes"]:
            raise DataError(f"the espeak-ng process has ended in the middle of {utterance}")
        pcm = _amplified(np.frombuffer(raw, dtype=np.int16), utterance.level)
        return Speech(pcm, tuple((str(s), int(at)) for s, at in header["phones"]))

    def ipa(self, texts: Sequence[str], voice: str) -> list[str]:
        """The international phonetic alphabet for each text, with stress; punctuation is not kept.

        Raises:
            ConfigError: unknown voice or variant.
            DataError: the library failed; the message names the first text and the voice.
        """
        check_voices([voice])
        header = self._ask({"texts": list(texts), "voice": voice})
        if "error" in header:
            raise DataError(f"{header['error']}: {voice!r}, {len(texts)} texts, the first {texts[0][:60]!r}")
        return [str(text) for text in header["ipa"]]

    @property
    def alive(self) -> bool:
        """Whether the process still answers."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process; closing twice is fine."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                # What a broken pipe still held back is lost, and nothing waits for it.
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            # A process forked off this one meanwhile holds the pipes open too, so that theirs never ends.
            self._process.kill()
            self._process.wait()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's process without ending it."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        # Nobody here may wait for what is not a child of this process.
        self._process.returncode = 0

    def __enter__(self) -> "Speaker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise DataError(f"the espeak-ng process has ended: {error}") from error
        return self._read_header()

    def _read_header(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise DataError("the espeak-ng process has ended without an answer")
        header: dict[str, Any] = json.loads(line)
        return header


def _amplified(pcm: NDArray[np.int16], level: float) -> NDArray[np.int16]:
    """Samples at another level in dB; peaks are clipped."""
    if level == 0.0:
        return pcm
    # A multiple of 2**-16, so that no machine's power function decides how a sample is rounded.
    factor = round(10 ** (level / 20) * 2**16) / 2**16
    louder: NDArray[np.int16] = np.clip(np.rint(pcm * factor), -32768, 32767).astype(np.int16)
    return louder


@lru_cache(maxsize=1)
def version() -> str:
    """Of the library and of the package that brings it: what the samples depend on besides the utterance.

    Raises:
        MissingPackageError: espeakng-loader is not installed.
    """
    with Speaker() as speaker:
        return f"espeak-ng {speaker.version}, espeakng-loader {metadata.version('espeakng-loader')}"


def check_voices(names: Iterable[str]) -> None:
    """Refuse what the library would accept and then speak in another voice.

    A name is that of a voice file in lower case (``en-us``, ``en``, ``en-gb-scotland``; British English is ``en``),
    alone or with ``+`` and the exact name of a variant file (``en-us+f2``).

    Raises:
        ConfigError: one line for each name that is unknown.
        MissingPackageError: espeakng-loader is not installed.
    """
    voices, variants = _known()
    faults = []
    for name in names:
        voice, plus, variant = name.partition("+")
        if voice not in voices:
            faults.append(f"espeak-ng has no voice {voice!r}, found in {name!r}. {_nearest(voice, voices)}")
        if plus and variant not in variants:
            faults.append(f"espeak-ng has no variant {variant!r}, found in {name!r}. {_nearest(variant, variants)}")
    if faults:
        raise ConfigError("\n".join(faults))


@lru_cache(maxsize=1)
def _known() -> tuple[frozenset[str], frozenset[str]]:
    """The names of all voices and of all variants that the data folder holds."""
    data = Path(_loader().get_data_path())
    voices = frozenset(path.name.lower() for path in (data / "lang").rglob("*") if path.is_file())
    variants = frozenset(path.name for path in (data / "voices" / "!v").iterdir())
    if not voices or not variants:
        raise ConfigError(f"{data}: no espeak-ng voices here; install espeakng-loader again")
    return voices, variants


def _nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion that knows of case, since the names of variants are exact."""
    if name == "en-gb":
        return "British English is 'en'."
    folded = {other.casefold(): other for other in sorted(known)}
    near = folded.get(name.casefold())
    return f"Did you mean {near!r}?" if near else suggest(name, sorted(known))


def _loader() -> Any:
    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingPackageError("synthetic speech", "espeakng-loader") from error
    return espeakng_loader
