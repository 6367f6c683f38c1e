"""What the configs of synthesis have besides the sections of every task."""

from typing import Annotated

from hw_base import registry
from hw_base.config.schema import Component, Config, Of


class SynthesisConfig(Config):
    """One experiment of synthesis.

    Attributes:
        new_speakers: how speakers that the checkpoint of ``init_from`` lacks are initialized.
    """

    model: Annotated[
        Component, Of(registry.MODELS, runtime=("n_mels", "n_tokens", "n_speakers", "sample_rate", "hop_length"))
    ]
    new_speakers: Annotated[Component, Of(registry.SPEAKER_INITS)] | None = None


class VocoderConfig(Config):
    """One experiment of vocoding."""

    model: Annotated[Component, Of(registry.MODELS, runtime=("n_mels", "hop_length"))]
