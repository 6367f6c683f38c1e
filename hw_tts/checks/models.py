"""What every model of synthesis keeps to, synthesizers and vocoders; `synthesizers` says more of the former."""

from hw_base.checks import Candidate, Outcome, declare
from hw_base.checks.models import ANY_MODEL
from hw_base.errors import ConfigError
from hw_base.nn.model import BaseModel
from hw_tts.models.hifigan.model import HiFiGAN

# Models that make waveforms are made for one of these, and refuse the others.
_HOPS = (128, 256, 200, 300, 160)


def check_model(candidate: Candidate) -> list[Outcome]:
    """All properties of a model of synthesis, with two speakers where it can have several."""
    return ANY_MODEL.check(lambda init_seed=0: build_model(candidate, init_seed))


def build_model(candidate: Candidate, init_seed: int) -> BaseModel:
    """A model of 40 mel bins, 11 symbols and two speakers, as far as it asks for them."""
    sizes = {"n_mels": 40, "n_tokens": 11, "n_speakers": 2, "sample_rate": 16000}
    for hop_length in _HOPS:
        try:
            model: BaseModel = candidate.build(init_seed, **sizes, hop_length=hop_length)
        except ConfigError:
            if hop_length == _HOPS[-1]:
                raise
        else:
            return model
    raise AssertionError


declare("models", check_model, HiFiGAN)
