"""Pictures and sounds as the bytes of PNG and WAV files, with nothing but the standard library."""

import io
import struct
import wave
import zlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB_8_BIT = (8, 2, 0, 0, 0)  # bit depth, colour type, compression, filter, interlace


def png_bytes(image: NDArray[np.uint8]) -> bytes:
    """A PNG file (ISO/IEC 15948) of an 8-bit RGB picture.

    Args:
        image (NDArray): uint8, ``(height, width, 3)``.

    Raises:
        ValueError: another shape or type.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"an image must be uint8 (height, width, 3), found {image.dtype} {image.shape}")
    height, width = image.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), dtype=np.uint8)  # each row begins with its filter, 0 for none
    rows[:, 1:] = image.reshape(height, 3 * width)
    header = struct.pack(">II5B", width, height, *_RGB_8_BIT)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    return _PNG_SIGNATURE + b"".join(_png_chunk(kind, body) for kind, body in chunks)


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


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
