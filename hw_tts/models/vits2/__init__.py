"""VITS2 with multi-band and other decoders that end in an inverse Fourier transform."""

from hw_tts.models.vits2.model import VITS2

__all__ = ["VITS2"]
