"""Augmentations of waveforms and spectrograms; importing this package registers all of them."""

from hw_asr.augmentations.base import BaseAugmentation
from hw_asr.augmentations.rate import PitchShift, SpeedPerturbation
from hw_asr.augmentations.room import Reverberation
from hw_asr.augmentations.spectrogram import SpecAugment
from hw_asr.augmentations.waveform import BackgroundNoise, BandPass, Clipping, ColoredNoise, Gain

__all__ = [
    "BackgroundNoise",
    "BandPass",
    "BaseAugmentation",
    "Clipping",
    "ColoredNoise",
    "Gain",
    "PitchShift",
    "Reverberation",
    "SpecAugment",
    "SpeedPerturbation",
]
