"""CTC decoders; importing this package registers them."""

from hw_asr.decoders.base import BaseDecoder, Hypothesis
from hw_asr.decoders.greedy import GreedyDecoder

__all__ = ["BaseDecoder", "GreedyDecoder", "Hypothesis"]
