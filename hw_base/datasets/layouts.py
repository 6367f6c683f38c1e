"""Which dataset reads a given folder: an official corpus, or recordings of one's own."""

from pathlib import Path
from typing import Any

from hw_base.errors import ConfigError


def dataset_of(path: str) -> dict[str, Any]:
    """The section of a config that reads a folder or a file with all that is in it.

    Known are LJSpeech (``metadata.csv`` beside ``wavs``), VCTK (``wav48_silence_trimmed`` or ``wav48`` beside ``txt``)
    and Common Voice (``test.tsv`` beside ``clips``). Everything else, one file and LibriSpeech's folders among them, is
    read by `CustomDir`.

    Raises:
        ConfigError: there is no such folder or file.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        raise ConfigError(f"--test-data-folder: {path} does not exist")
    root = {"root": str(folder)}
    if (folder / "metadata.csv").is_file() and (folder / "wavs").is_dir():
        return {"type": "LJSpeech", "args": {**root, "part": "all"}}
    if (folder / "txt").is_dir() and any((folder / name).is_dir() for name in ("wav48_silence_trimmed", "wav48")):
        return {"type": "VCTK", "args": {**root, "part": "all"}}
    if (folder / "test.tsv").is_file() and (folder / "clips").is_dir():
        return {"type": "CommonVoice", "args": {**root, "part": "test"}}
    return {"type": "CustomDir", "args": root}
