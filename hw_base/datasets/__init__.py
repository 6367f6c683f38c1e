"""Corpora of transcribed speech; importing this package registers them."""

from hw_base.datasets.common_voice import CommonVoice
from hw_base.datasets.custom_dir import CustomDir
from hw_base.datasets.file_list import FileList
from hw_base.datasets.fsdd import FreeSpokenDigits
from hw_base.datasets.librispeech import LibriSpeech
from hw_base.datasets.ljspeech import LJSpeech
from hw_base.datasets.manifest import Manifest
from hw_base.datasets.shards import Shards
from hw_base.datasets.vctk import VCTK

__all__ = [
    "VCTK",
    "CommonVoice",
    "CustomDir",
    "FileList",
    "FreeSpokenDigits",
    "LJSpeech",
    "LibriSpeech",
    "Manifest",
    "Shards",
]
