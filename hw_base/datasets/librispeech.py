"""LibriSpeech (Panayotov et al., ICASSP 2015) in its official folders, downloaded if need be."""

import logging
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hw_base.audio.io import EXTENSIONS
from hw_base.config.schema import PathText
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.durations import with_durations
from hw_base.errors import ConfigError, DataError
from hw_base.files import archives, download
from hw_base.registry import DATASETS
from hw_base.storage import exclusive
from hw_base.texts.files import read_lines

log = logging.getLogger(__name__)

Part = Literal[
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
    "train-960",
]

# https://www.openslr.org/resources/12/md5sum.txt
MD5 = {
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fee3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
}
Speakers = Annotated[list[str], Field(min_length=1)]
# For `pick`; not the first utterance, which names the book and its reader.
_PERIOD = 20
UNIONS = {"train-960": ("train-clean-100", "train-clean-360", "train-other-500")}


@DATASETS.register()
class LibriSpeech(BaseDataset):
    """One part of LibriSpeech: ``<root>/<part>/<speaker>/<chapter>/<utterance>.flac``, with ``.trans.txt`` beside.

    MP3, as in the original recordings, and any other audio format will do as well. The root may be read-only.

    Args:
        root: the folder of the parts, or the one that holds ``LibriSpeech``, where the official archives unpack.
        part: an official part, or ``train-960``, which is the three training parts together.
        download: get a part that is missing, check it, unpack it into ``<root>/<part>`` and remove the archive. Parts
            have 0.3 GB, but the training parts 6, 23 and 30 GB, of which twice as much must be free for a while. A
            download that was cut is resumed; several processes wait for one of them.
        base_url: where ``<part>.tar.gz`` lies; the official site or one of its mirrors.
        speakers: keep these only, by the names of their folders: some speakers of a part to validate with.
        without_speakers: leave these out: the others of that part to train with.
        pick: ``val`` keeps every twentieth utterance of a chapter, ``train`` the others: to train and validate with
            the same speakers.

    Raises:
        ConfigError: a speaker is named who is not in the part, or no speaker remains.
        DataError: the part is missing or empty, cannot be downloaded, or an utterance has no transcript.
    """

    def __init__(
        self,
        root: PathText,
        part: Part,
        download: bool = False,
        base_url: str = "https://www.openslr.org/resources/12",
        speakers: Speakers | None = None,
        without_speakers: Speakers | None = None,
        pick: Literal["all", "train", "val"] = "all",
    ) -> None:
        folder = Path(root)
        parts = UNIONS.get(part, (part,))
        if download:
            for name in parts:
                _download(folder, name, base_url)
        records = [record for name in parts for record in _records(folder, name)]
        _refuse_repeated(records)
        everybody = {record.speaker for record in records}
        _check_speakers("speakers", speakers, everybody)
        _check_speakers("without_speakers", without_speakers, everybody)
        kept = (everybody if speakers is None else set(speakers)) - set(without_speakers or ())
        if not kept:
            raise ConfigError("without_speakers: no speaker remains")
        picked = [r for r in records if r.speaker in kept and pick in ("all", _pick(r.utterance_id))]
        if not picked:
            raise DataError(f"LibriSpeech: {folder} has no utterances of {part!r} for pick = {pick!r}")
        super().__init__(picked, name=f"LibriSpeech {part}")


def _pick(utterance_id: str) -> str:
    number = utterance_id.rpartition("-")[2]
    return "val" if number.isdecimal() and int(number) % _PERIOD == _PERIOD // 2 else "train"


def _check_speakers(key: str, names: list[str] | None, everybody: set[str]) -> None:
    unknown = sorted(set(names or ()) - everybody)
    if unknown:
        raise ConfigError(f"{key}: {unknown} are not in the part, which has {', '.join(sorted(everybody))}")


def _records(root: Path, part: str) -> list[Record]:
    folder = _part_folder(root, part)
    texts = _transcripts(folder)
    # Not `rglob`, which would also find what a stray archive or a hidden folder left somewhere.
    files = sorted(file for file in folder.glob("*/*/*") if _is_audio(file))
    if not files:
        raise DataError(f"LibriSpeech: {folder} has no audio files in <speaker>/<chapter>/")
    records = [_record(file, texts) for file in files]
    lost = sorted(texts.keys() - {record.utterance_id for record in records})
    if lost:
        log.warning("LibriSpeech %s: %d transcripts have no audio file (first: %s)", part, len(lost), lost[0])
    return with_durations(folder, records)


def _download(root: Path, part: str, base_url: str) -> None:
    if _found(root, part) is not None:
        return
    with exclusive(root / f".{part}.lock"):
        if _found(root, part) is not None:  # another process was faster
            return
        name = f"{part}.tar.gz"
        archive = download.fetch(f"{base_url.rstrip('/')}/{name}", root / name, md5=MD5[part])
        log.info("unpacking %s", archive)
        # FLAC does not compress further: what unpacks to much more is not this corpus.
        quota = 2 * archive.stat().st_size + (64 << 20)
        archives.extract(archive, root / part, inside=f"LibriSpeech/{part}", max_bytes=quota)
        archive.unlink()


def _is_audio(file: Path) -> bool:
    return file.suffix.lower() in EXTENSIONS and not file.name.startswith(".")


def _found(root: Path, part: str) -> Path | None:
    # Archives unpack into a folder LibriSpeech; some hosts put each archive into a folder of its own.
    for folder in (root / part, root / "LibriSpeech" / part, root / part / "LibriSpeech" / part):
        if folder.is_dir() and any(folder.glob("*/*/*.trans.txt")):
            return folder
    return None


def _part_folder(root: Path, part: str) -> Path:
    folder, expected = _found(root, part), root / part
    if folder is not None:
        return folder
    if expected.is_dir():
        raise DataError(f"LibriSpeech: {expected} has no <speaker>/<chapter>/*.trans.txt; unpack the archive again")
    raise DataError(
        f"LibriSpeech: expected the folder {expected}, which does not exist; "
        "correct root, or set download to true to get it from https://www.openslr.org/12"
    )


def _transcripts(folder: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for file in sorted(folder.glob("*/*/*.trans.txt")):
        for line in read_lines(file):
            utterance_id, _, text = line.strip().partition(" ")
            if utterance_id:
                texts[utterance_id] = text.strip()
    return texts


def _record(file: Path, texts: dict[str, str]) -> Record:
    if file.stem not in texts:
        raise DataError(f"LibriSpeech: utterance {file.stem!r} has no transcript in {file.parent}")
    return Record(file.stem, str(file), 0.0, texts[file.stem], speaker=file.parent.parent.name)


def _refuse_repeated(records: list[Record]) -> None:
    seen: dict[str, Record] = {}
    for record in records:
        other = seen.setdefault(record.utterance_id, record)
        if other is not record:
            raise DataError(
                f"LibriSpeech: utterance {record.utterance_id!r} lies in two files: "
                f"{other.audio_path} and {record.audio_path}"
            )
