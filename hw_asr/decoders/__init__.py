"""Decoders of CTC models and transducers; importing this package registers them."""

from hw_asr.decoders.base import BaseDecoder, Hypothesis
from hw_asr.decoders.beam import BeamSearch
from hw_asr.decoders.flashlight import FlashlightBeamSearch
from hw_asr.decoders.greedy import GreedyDecoder
from hw_asr.decoders.reference import ReferenceBeamSearch
from hw_asr.decoders.transducer import TransducerBeamSearchDecoder, TransducerDecoder, TransducerGreedyDecoder

# Registered names of those that take the likeliest token of each frame.
GREEDY = ("Greedy", "TransducerGreedyDecoder")

__all__ = [
    "GREEDY",
    "BaseDecoder",
    "BeamSearch",
    "FlashlightBeamSearch",
    "GreedyDecoder",
    "Hypothesis",
    "ReferenceBeamSearch",
    "TransducerBeamSearchDecoder",
    "TransducerDecoder",
    "TransducerGreedyDecoder",
]
