"""Acoustic models; importing this package registers them."""

from hw_asr.models.conformer import Conformer
from hw_asr.models.deepspeech import DeepSpeech
from hw_asr.models.deepspeech2 import DeepSpeech2
from hw_asr.models.transducer import Transducer

__all__ = ["Conformer", "DeepSpeech", "DeepSpeech2", "Transducer"]
