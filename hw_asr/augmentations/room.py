"""Reverberation with recorded or simulated impulse responses."""

import math

import torch
from pydantic import PositiveInt
from torch import Tensor

from hw_asr.augmentations import dsp
from hw_asr.augmentations.base import Probability
from hw_asr.augmentations.folder import SoundFolder
from hw_asr.augmentations.waveform import WaveformAugmentation
from hw_base.config.schema import PathText
from hw_base.registry import AUGMENTATIONS


@AUGMENTATIONS.register()
class Reverberation(WaveformAugmentation):
    """Speech as a microphone in another room records it: convolution with a random impulse response.

    The response starts at its highest peak, so that nothing moves in time; the reverberation's tail beyond the end is
    cut off, and the power stays what it was.

    Args:
        folder: of impulse responses of any rate, sub-folders included.
        sample_rate: of the waveforms, in Hz.
        p: probability with which a waveform is changed.
    """

    def __init__(self, folder: PathText, sample_rate: PositiveInt, p: Probability = 0.3) -> None:
        super().__init__(p)
        self.sounds = SoundFolder(folder, sample_rate, type(self).__name__)

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        response = self.sounds.draw(generator)
        response = response[int(response.abs().argmax()) :].to(x.device)
        reverberant = dsp.convolve(x, response)[: len(x)]
        power = dsp.power(reverberant)
        # A silent response must not silence the utterance.
        return reverberant * math.sqrt(dsp.power(x) / power) if power > 0.0 else x
