"""Corpora of transcribed speech; importing this package registers them."""

from hw_base.datasets.common_voice import CommonVoice
from hw_base.datasets.custom_dir import CustomDir
from hw_base.datasets.fsdd import FreeSpokenDigits
from hw_base.datasets.librispeech import LibriSpeech
from hw_base.datasets.ljspeech import LJSpeech
from hw_base.datasets.manifest import Manifest

__all__ = ["CommonVoice", "CustomDir", "FreeSpokenDigits", "LJSpeech", "LibriSpeech", "Manifest"]
