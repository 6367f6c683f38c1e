"""What the components of recognition must keep to; importing this package declares its checks."""

from hw_asr.checks.augmentations import check_augmentation
from hw_asr.checks.decoders import check_decoder
from hw_asr.checks.losses import check_loss
from hw_asr.checks.models import check_model
from hw_asr.checks.positions import check_offsets, check_shift
from hw_asr.checks.transducer import check_decoder as check_transducer_decoder

__all__ = [
    "check_augmentation",
    "check_decoder",
    "check_loss",
    "check_model",
    "check_offsets",
    "check_shift",
    "check_transducer_decoder",
]
