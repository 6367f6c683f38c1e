"""Sounds and pictures for the page, in compact formats, until the page is full."""

import io
import logging
from pathlib import Path

import torch
from torch import Tensor

from hw_base.audio import io as audio
from hw_base.errors import DataError, MissingPackageError
from hw_base.reports.blocks import Clip
from hw_base.writers import plots

log = logging.getLogger(__name__)

_N_FFT, _HOP = 512, 128
_WIDEST = 1600  # pixels
_MOST_PIXELS = 50_000_000
_QUALITY = 80


class MediaStore:
    """Reads and packs media. Sounds become FLAC, which loses nothing; pictures WebP.

    Args:
        budget: bytes of the page that media may take, coded as base64.
        longest: seconds of a sound that are kept.

    Attributes:
        left_out: how many files found no room.
    """

    def __init__(self, budget: int, longest: float = 20.0) -> None:
        self.budget, self.longest = budget, longest
        self.left_out = 0

    def sound(self, path: Path, caption: str) -> Clip | None:
        """An audio file; None where it cannot be read."""
        read = self._waveform(path)
        return None if read is None else self._clip("audio", caption, "audio/flac", _flac(*read))

    def picture(self, path: Path, caption: str) -> Clip | None:
        """A picture file; None where it cannot be read."""
        from PIL import Image

        try:
            with Image.open(path) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise ValueError(f"{image.width} x {image.height} pixels are too many")
                small = image.convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            log.warning("%s is left out: %s", path, error)
            return None
        small.thumbnail((_WIDEST, 4 * _WIDEST))
        buffer = io.BytesIO()
        small.save(buffer, format="WEBP", quality=_QUALITY)
        return self._clip("picture", caption, "image/webp", buffer.getvalue())

    def spectrogram(self, path: Path, caption: str) -> Clip | None:
        """The log-magnitude spectrogram of an audio file; None where it cannot be read or drawn."""
        read = self._waveform(path)
        if read is None or len(read[0]) < _N_FFT:
            return None
        from PIL import Image

        waveform, rate = read
        magnitude = torch.stft(waveform, _N_FFT, _HOP, window=torch.hann_window(_N_FFT), return_complex=True).abs()
        try:
            image = plots.spectrogram_image(
                (magnitude + 1e-5).log10() * 20, "", _HOP / rate, "frequency bin", height=2.4
            )
        except MissingPackageError as error:
            log.warning("%s", error)
            return None
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="WEBP", quality=_QUALITY)
        return self._clip("picture", caption, "image/webp", buffer.getvalue())

    def _waveform(self, path: Path) -> tuple[Tensor, int] | None:
        if not path.is_file():
            return None
        try:
            return audio.load(path, segment=(0.0, self.longest))
        except DataError as error:
            log.warning("left out: %s", error)
            return None

    def _clip(self, kind: str, caption: str, mime: str, content: bytes) -> Clip:
        size = 4 * len(content) // 3 + 200
        if size > self.budget:
            self.left_out += 1
            return Clip(kind, caption, mime, None)
        self.budget -= size
        return Clip(kind, caption, mime, content)


def _flac(waveform: Tensor, rate: int) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, waveform.clamp(-1, 1).numpy(), rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()
