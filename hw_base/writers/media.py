"""Pictures and sounds as the bytes of PNG and WAV files."""

import io
import wave

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw_base.errors import MissingPackageError


def png_bytes(image: NDArray[np.uint8]) -> bytes:
    """A PNG file of an 8-bit RGB picture.

    Args:
        image (NDArray): uint8, ``(height, width, 3)``.

    Raises:
        ValueError: another shape or type.
        MissingPackageError: Pillow is not installed.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"an image must be uint8 (height, width, 3), found {image.dtype} {image.shape}")
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackageError("a picture", "pillow") from error
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def samples_of(waveform: Tensor) -> NDArray[np.int16]:
    """16-bit samples ``(S,)`` of a waveform in [-1, 1]; what lies outside is clipped, NaN becomes silence.

    Raises:
        ValueError: not one-dimensional.
    """
    if waveform.ndim != 1:
        raise ValueError(f"a waveform must be (S,), found {tuple(waveform.shape)}")
    values = torch.nan_to_num(waveform.detach().cpu().float(), nan=0.0).clamp(-1, 1)
    samples: NDArray[np.int16] = (values * 32767).round().to(torch.int16).numpy()
    return samples


def wav_bytes(waveform: Tensor, sample_rate: int) -> bytes:
    """A mono 16-bit WAV file of a waveform ``(S,)`` in [-1, 1]. The level stays as it is."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples_of(waveform).astype("<i2").tobytes())
    return buffer.getvalue()
