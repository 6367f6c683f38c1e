"""Opens language models, and keeps their arrays in the user's cache so that each file is parsed once."""

import contextlib
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np

from hw_asr.language_models.arpa import read_arpa
from hw_asr.language_models.kenlm.binary import is_kenlm_binary, read_kenlm
from hw_asr.language_models.ngram import NgramArrays, NgramModel
from hw_base.errors import DataError
from hw_base.storage import cache_folder, replacing

_FORMAT = 2


def open_ngram(path: "str | Path", use_cache: bool = True) -> NgramModel:
    """The model of an ARPA file (gzipped or not) or KenLM binary, from the cache if the file has not changed since.

    Raises:
        DataError: the file is missing or not a sound model.
    """
    path = Path(path)
    if not use_cache:
        return _parse(path)
    cached = _cache_path(path)
    try:
        return _load(cached)
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile):  # absent or damaged
        model = _parse(path)
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        _save(model, cached)
    return model


def _parse(path: Path) -> NgramModel:
    return NgramModel.from_arpa(read_kenlm(path) if is_kenlm_binary(path) else read_arpa(path))


def _cache_path(path: Path) -> Path:
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot read the language model: {error}") from error
    key = json.dumps([_FORMAT, str(path.resolve()), status.st_size, status.st_mtime_ns])
    return cache_folder() / "language_models" / f"{path.name}.{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"


def _load(path: Path) -> NgramModel:
    with np.load(path, allow_pickle=False) as file:
        order, levels, start_state = file["header"].tolist()
        vocabulary = file["vocabulary"].tobytes().decode().split("\n")
        arrays = NgramArrays(**{name: file[name] for name in NgramArrays._fields})
    return NgramModel(order, vocabulary, levels, start_state, arrays)


def _save(model: NgramModel, path: Path) -> None:
    header = np.array([model.order, model.levels, model.start_state])
    vocabulary = np.frombuffer("\n".join(model.vocabulary).encode(), np.uint8)
    with replacing(path, durable=False) as scratch, open(scratch, "wb") as file:
        np.savez(file, header=header, vocabulary=vocabulary, **model.arrays._asdict())
