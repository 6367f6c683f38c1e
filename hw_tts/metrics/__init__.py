"""Measures of synthetic speech; importing this package registers them."""

from hw_tts.metrics import cepstral, prosody, spectral

__all__ = ["cepstral", "prosody", "spectral"]
