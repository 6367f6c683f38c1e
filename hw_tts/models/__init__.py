"""Acoustic models and vocoders; importing this package registers them."""

from hw_tts.models.fastspeech import FastSpeech
from hw_tts.models.fastspeech2 import FastSpeech2
from hw_tts.models.hifigan.model import HiFiGAN
from hw_tts.models.vits2.model import VITS2

__all__ = ["VITS2", "FastSpeech", "FastSpeech2", "HiFiGAN"]
