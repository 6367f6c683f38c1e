"""The small model of the reference numbers, and a batch for it."""

import pytest
import torch

from hw_tts.models.vits2 import VITS2
from tests.conftest import SHARED

REFERENCE = SHARED / "reference" / "mb_istft_vits2_small.pt"
FULL_KEYS = SHARED / "reference" / "mb_istft_vits2_full_keys.json"
SIZES = {
    "inter_channels": 16,
    "hidden_channels": 16,
    "filter_channels": 32,
    "speaker_channels": 8,
    "n_layers": 4,
    "upsample_initial_channels": 32,
    "bank": "public",
    "segment_frames": 8,
    "discriminator_channels": 64,
}


def small_model(n_speakers=5, hop_length=256, **changes):
    return VITS2(n_mels=80, n_tokens=40, n_speakers=n_speakers, hop_length=hop_length, **{**SIZES, **changes})


def batch(lengths=((11, 37), (6, 20), (3, 5)), hop_length=256):
    """Random utterances of (tokens, frames)."""
    generator = torch.Generator().manual_seed(0)
    n_tokens, n_frames = (max(column) for column in zip(*lengths, strict=True))
    made = {
        "tokens": torch.randint(1, 40, (len(lengths), n_tokens), generator=generator),
        "tokens_length": torch.tensor([tokens for tokens, _ in lengths]),
        "spectrogram": torch.randn(len(lengths), 80, n_frames, generator=generator),
        "spectrogram_length": torch.tensor([frames for _, frames in lengths]),
        "waveform": torch.randn(len(lengths), (n_frames - 1) * hop_length, generator=generator),
        "speaker_id": torch.arange(len(lengths)) % 5,
    }
    for row, (tokens, frames) in enumerate(lengths):
        made["tokens"][row, tokens:] = 0
        made["spectrogram"][row, :, frames:] = 0
        made["waveform"][row, (frames - 1) * hop_length :] = 0
    return made


def wake(model, seed=0):
    """Give the layers that begin as zeros other weights, so that they do something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.1, generator=generator)
    return model


def reference():
    if not REFERENCE.is_file():
        pytest.skip(f"no reference numbers at {REFERENCE}")
    return torch.load(REFERENCE, weights_only=True)
