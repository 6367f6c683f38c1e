"""RNN transducers: an encoder, a predictor of the next token and a joiner."""

from hw_asr.models.transducer.model import Transducer
from hw_asr.models.transducer.predictors import BasePredictor, LSTMPredictor, StatelessPredictor

__all__ = ["BasePredictor", "LSTMPredictor", "StatelessPredictor", "Transducer"]
