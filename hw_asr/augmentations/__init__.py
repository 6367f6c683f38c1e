"""Augmentations of waveforms and spectrograms; importing this package registers all of them."""

from hw_asr.augmentations.base import BaseAugmentation
from hw_asr.augmentations.spectrogram import SpecAugment

__all__ = ["BaseAugmentation", "SpecAugment"]
