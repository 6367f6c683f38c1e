"""What the components of synthesis must keep to; importing this package declares its checks."""

from hw_tts.checks.alignment import check_aligner, check_regulator
from hw_tts.checks.blocks import check_block
from hw_tts.checks.losses import check_loss
from hw_tts.checks.metrics import check_metric
from hw_tts.checks.models import check_model
from hw_tts.checks.positions import check_positions
from hw_tts.checks.synthesizers import check_synthesizer
from hw_tts.checks.vocoders import check_vocoder

__all__ = [
    "check_aligner",
    "check_block",
    "check_loss",
    "check_metric",
    "check_model",
    "check_positions",
    "check_regulator",
    "check_synthesizer",
    "check_vocoder",
]
