"""Decoders of transducers, which ask the model for each next token."""

from hw_asr.decoders.transducer.base import TransducerDecoder
from hw_asr.decoders.transducer.beam import TransducerBeamSearchDecoder
from hw_asr.decoders.transducer.greedy import TransducerGreedyDecoder

__all__ = ["TransducerBeamSearchDecoder", "TransducerDecoder", "TransducerGreedyDecoder"]
