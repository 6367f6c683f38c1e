"""CTC decoders; importing this package registers them."""

from hw_asr.decoders.base import BaseDecoder, Hypothesis
from hw_asr.decoders.beam import BeamSearch
from hw_asr.decoders.flashlight import FlashlightBeamSearch
from hw_asr.decoders.greedy import GreedyDecoder
from hw_asr.decoders.reference import ReferenceBeamSearch

__all__ = [
    "BaseDecoder",
    "BeamSearch",
    "FlashlightBeamSearch",
    "GreedyDecoder",
    "Hypothesis",
    "ReferenceBeamSearch",
]
