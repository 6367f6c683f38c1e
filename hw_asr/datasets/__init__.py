"""Corpora of transcribed speech; importing this package registers them."""

from hw_asr.datasets.common_voice import CommonVoice
from hw_asr.datasets.custom_dir import CustomDir
from hw_asr.datasets.fsdd import FreeSpokenDigits
from hw_asr.datasets.librispeech import LibriSpeech
from hw_asr.datasets.ljspeech import LJSpeech
from hw_asr.datasets.manifest import Manifest

__all__ = ["CommonVoice", "CustomDir", "FreeSpokenDigits", "LJSpeech", "LibriSpeech", "Manifest"]
