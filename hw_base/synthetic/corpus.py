"""The embedded speech corpus: sentences, spoken by espeak-ng in many voices, made on first use."""

import contextlib
import hashlib
import json
import logging
import os
import queue
import random
import shutil
import tempfile
import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from hw_base import distributed, storage
from hw_base.config.schema import PathText, Threads
from hw_base.data.dataset import BaseDataset, Record
from hw_base.errors import ConfigError, DataError
from hw_base.registry import DATASETS
from hw_base.synthetic import espeak, sentences
from hw_base.synthetic.espeak import Speaker, Speech, Utterance
from hw_base.synthetic.exact_resampling import resample
from hw_base.synthetic.sentences import Grammar, Part

log = logging.getLogger(__name__)

SILENCE = "_"

# Raise it when anything changes that the samples or the index depend on: it is part of the name of corpora on disk.
VERSION = 1

# A config may come from an untrusted checkpoint: a corpus that would take years to synthesize is refused at once.
_Utterances = Annotated[int, Field(gt=0, le=1_000_000)]

DEFAULT_SIZES: dict[Part, int] = {"train": 2150, "val": 150, "test": 200}

_ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-us-nyc", "en-029")
# Natural voices only: no whisper, no robot, no Klatt synthesis, nothing that clips, and the first three formants within
# 75 to 135 % of the accent's own ("Lee" has its third at 9 %). A part's variants occur in no other part.
_VARIANTS: dict[Part, tuple[str, ...]] = {
    "train": (
        *("", "+m1", "+m2", "+m4", "+m7", "+Alex", "+Gene", "+Mario", "+ed", "+norbert", "+rob"),
        *("+f1", "+f3", "+f5", "+Annie", "+anika", "+belinda", "+grandma", "+linda"),
    ),
    "val": ("+Mike", "+aunty", "+f4", "+m5"),
    "test": ("+Andrea", "+antonio", "+f2", "+m3", "+m6", "+robert"),
}

# Name of the file that holds the digest of all others.
_DIGEST = "sha256"

_Rate = Annotated[int, Field(ge=80, le=450)]
_Pitch = Annotated[int, Field(ge=0, le=99)]
_Level = Annotated[float, Field(ge=-40, le=6)]


@DATASETS.register()
class SyntheticSpeech(BaseDataset):
    """Synthetic English speech with texts, speakers and exact phone times; nothing is downloaded.

    A sentence always belongs to the same part, whatever the arguments. With the default voices the parts share no voice
    variant either; a list of `voices` is used as it stands, so that a part is then spoken in the voices one names.

    ``record.extra["phones"]`` is ``[[symbol, start_s, end_s], ...]``: espeak's symbols (a stressed vowel begins with
    ``'`` or ``,``) and `SILENCE` for every pause. The intervals have no gaps and no overlaps, the first starts at 0,
    the last ends at the record's duration; the first and the last are silence.

    The corpus is made once and kept in a folder named after everything it depends on. The samples depend on neither
    `n_processes` nor on how often or by how many processes the corpus is asked for.

    Args:
        part: which sentences, and by default which voices.
        n_utterances: None is 2150 for train, 150 for val, 200 for test, and with `texts` every sentence of the part. A
            smaller corpus is the beginning of a larger.
        voices: names as in `hw_base.synthetic.espeak.check_voices`, spoken in turn; None is the part's own voices.
        rate: slowest and fastest speech in words a minute; each utterance has its own.
        pitch: lowest and highest, 0 to 99, where 50 is the voice's own; each utterance has its own.
        level: softest and loudest in dB, where 0 is the voice's own; each utterance has its own.
        grammar: ``everyday``, a small vocabulary, or ``wide``, in which every phone of American English occurs.
        texts: a text file, whose lines are spoken in place of a grammar's sentences. Four fifths of them belong to
            train, a tenth each to val and test; lines with digits are left out.
        sample_rate: in Hz.
        seed: another seed, other sentences, rates, pitches and levels.
        cache_dir: where corpora are kept; None is ``hw_speech`` in the user's cache folder (``$XDG_CACHE_HOME``,
            otherwise ``~/.cache``).
        n_processes: that make the corpus; None is one for each core.

    Raises:
        ConfigError: unknown voice or variant, an empty range, more utterances than there are sentences.
        DataError: the corpus cannot be written, or `texts` cannot be read.
        MissingPackageError: espeakng-loader is not installed.
    """

    def __init__(
        self,
        part: Part,
        n_utterances: _Utterances | None = None,
        voices: Annotated[list[str], Field(min_length=1)] | None = None,
        rate: tuple[_Rate, _Rate] = (130, 190),
        pitch: tuple[_Pitch, _Pitch] = (35, 65),
        level: tuple[_Level, _Level] = (0.0, 0.0),
        grammar: Grammar = "everyday",
        texts: PathText | None = None,
        sample_rate: Literal[16000, 22050] = 16000,
        seed: NonNegativeInt = 0,
        cache_dir: PathText | None = None,
        n_processes: Threads | None = None,
    ) -> None:
        names = list(voices or default_voices(part))
        espeak.check_voices(names)
        for key, (low, high) in (("rate", rate), ("pitch", pitch), ("level", level)):
            if low > high:
                raise ConfigError(f"{key}: expected [lowest, highest], found [{low}, {high}]")
        if texts is None:
            spoken = sentences.draw(part, n_utterances or DEFAULT_SIZES[part], seed, grammar)
        else:
            spoken = sentences.of_file(texts, part, n_utterances, seed)
        plan = make_plan(part, spoken, names, rate, pitch, seed, level)
        folder = _cache_root(cache_dir) / f"{part}-{_key(plan, sample_rate)}"
        index = _read_index(folder) or _make(folder, plan, sample_rate, n_processes or distributed.n_cores())
        super().__init__([_record(part, folder, row, sample_rate) for row in index], name=f"SyntheticSpeech {part}")


def default_voices(part: Part) -> list[str]:
    """The voices of one part: each of its variants in half of the accents, in turn."""
    pairs = [(i + j, a + v) for i, v in enumerate(_VARIANTS[part]) for j, a in enumerate(_ACCENTS)]
    return [name for order, name in pairs if order % 2 == 0]


def make_plan(
    part: Part,
    texts: Sequence[str],
    voices: Sequence[str],
    rate: tuple[int, int],
    pitch: tuple[int, int],
    seed: int,
    level: tuple[float, float] = (0.0, 0.0),
) -> list[Utterance]:
    """Who will say these sentences, and how; nothing is spoken."""
    plan = []
    for i, text in enumerate(texts):
        generator = random.Random(f"{seed}/{part}/{i}")
        voice = voices[i % len(voices)]
        noise = generator.getrandbits(31)
        prosody = generator.randint(*rate), generator.randint(*pitch)
        plan.append(Utterance(text, voice, *prosody, noise, round(generator.uniform(*level), 1)))
    return plan


def _key(plan: Sequence[Utterance], sample_rate: int) -> str:
    """Names the corpus: a digest of all that the samples and the index depend on."""
    rows = [list(asdict(utterance).values()) for utterance in plan]
    # Corpora at the voices' own level keep the names that they had before levels could be chosen.
    rows = [row if utterance.level else row[:-1] for row, utterance in zip(rows, plan, strict=True)]
    content = [VERSION, espeak.version(), sample_rate, rows]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]


def _cache_root(cache_dir: str | None) -> Path:
    if cache_dir is not None:
        return Path(cache_dir).absolute()
    return storage.cache_folder()


def _record(part: Part, folder: Path, row: dict[str, Any], sample_rate: int) -> Record:
    duration = row["n_samples"] / sample_rate
    starts = [start / espeak.SAMPLE_RATE for _, start in row["phones"]]
    ends = [*starts[1:], duration]
    phones = [[symbol, start, end] for (symbol, _), start, end in zip(row["phones"], starts, ends, strict=True)]
    path = str(folder / row["file"])
    return Record(f"{part}-{row['number']:05d}", path, duration, row["text"], row["voice"], {"phones": phones})


def _read_index(folder: Path) -> list[dict[str, Any]] | None:
    """The index of a complete corpus; None where there is none, or where its content has changed since."""
    try:
        expected = (folder / _DIGEST).read_text(encoding="ascii")
        index: list[dict[str, Any]] = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if _content_digest(folder, index) != expected:
            raise ValueError("its content is not what was made")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: %s; the corpus is made again", folder, error)
        return None
    return index


def _content_digest(folder: Path, index: list[dict[str, Any]]) -> str:
    """Of the index and of all its files: a text or a sample that has changed is found."""
    digest = hashlib.sha256((folder / "index.json").read_bytes())
    for row in index:
        content = (folder / row["file"]).read_bytes()
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def _make(folder: Path, plan: Sequence[Utterance], sample_rate: int, n_processes: int) -> list[dict[str, Any]]:
    """Make the corpus in a temporary folder, then rename it: a folder with the final name is complete."""
    waiting = f"{folder}: another process is making this corpus; waiting for it"
    lock = folder.with_name(f".{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with storage.exclusive(lock, waiting, "; set cache_dir") as alone:
            index = _read_index(folder)
            if index is not None:
                return index
            if alone:
                for left in folder.parent.glob(f".{folder.name}-*"):
                    shutil.rmtree(left, ignore_errors=True)
            building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
            try:
                index = _speak_all(building, plan, sample_rate, n_processes)
                (building / "index.json").write_text(json.dumps(index), encoding="utf-8")
                (building / _DIGEST).write_text(_content_digest(building, index), encoding="ascii")
                _publish(building, folder)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise DataError(f"{folder}: the synthetic corpus cannot be written: {error}; set cache_dir") from error
    return index


def _publish(building: Path, folder: Path) -> None:
    os.chmod(building, 0o755)
    # A damaged corpus of this name goes; a process that still reads it keeps its open files.
    if folder.exists() and _read_index(folder) is None:
        shutil.rmtree(folder)
    try:
        os.rename(building, folder)
    except OSError:
        # Without a lock another process may have been first, with the same bytes.
        if _read_index(folder) is None:
            raise


def _speak_all(folder: Path, plan: Sequence[Utterance], sample_rate: int, n_processes: int) -> list[dict[str, Any]]:
    log.info("making %d utterances of synthetic speech, kept in %s", len(plan), folder.parent)
    (folder / "audio").mkdir()
    with contextlib.ExitStack() as stack:
        idle: queue.SimpleQueue[Speaker] = queue.SimpleQueue()
        for _ in range(n_processes):
            idle.put(stack.enter_context(Speaker()))

        def speak(number: int) -> dict[str, Any]:
            speaker = idle.get()
            try:
                speech = speaker.say(plan[number])
            finally:
                idle.put(speaker)
            return _write(folder, number, plan[number], speech, sample_rate)

        # Threads only wait for the processes that speak, resample and write; those release the interpreter's lock.
        pool = stack.enter_context(ThreadPoolExecutor(n_processes))
        try:
            return list(pool.map(speak, range(len(plan))))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _write(folder: Path, number: int, utterance: Utterance, speech: Speech, sample_rate: int) -> dict[str, Any]:
    """Write one file; its row of the index, with phone starts in samples at espeak's rate."""
    pcm, phones = _with_silence(speech, random.Random(utterance.seed))
    if sample_rate != espeak.SAMPLE_RATE:
        pcm = resample(pcm, espeak.SAMPLE_RATE, sample_rate)
    name = f"audio/{number:05d}.wav"
    with wave.open(str(folder / name), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(pcm.astype("<i2").tobytes())
    return {
        "number": number,
        "file": name,
        "n_samples": len(pcm),
        "text": utterance.text,
        "voice": utterance.voice,
        "phones": phones,
    }


def _with_silence(speech: Speech, generator: random.Random) -> tuple[NDArray[np.int16], list[tuple[str, int]]]:
    """Silence of 50 to 150 ms before and after, and the phones as intervals that tile the whole.

    espeak begins and ends with almost no pause.
    """
    before, after = (round(generator.uniform(0.05, 0.15) * espeak.SAMPLE_RATE) for _ in range(2))
    pcm = np.concatenate([np.zeros(before, np.int16), speech.pcm, np.zeros(after, np.int16)])
    return pcm, tile(speech, before, after)


def tile(speech: Speech, before: int, after: int) -> list[tuple[str, int]]:
    """The phones between two stretches of silence, with no gaps.

    Phones of no length are left out, neighboring pauses are one, every pause is `SILENCE`.

    Args:
        speech: what was said.
        before: samples of silence before it.
        after: samples of silence behind it.

    Returns:
        symbols and the samples at which they start, the first `SILENCE` at 0, the last `SILENCE` too.
    """
    starts = [(SILENCE if symbol.startswith("_") else symbol, before + at) for symbol, at in speech.phones]
    starts = [(SILENCE, 0), *starts, (SILENCE, before + len(speech.pcm))]
    ends = [at for _, at in starts[1:]] + [before + len(speech.pcm) + after]
    phones: list[tuple[str, int]] = []
    for (symbol, start), end in zip(starts, ends, strict=True):
        if end > start and not (phones and symbol == SILENCE == phones[-1][0]):
            phones.append((symbol, start))
    return phones
