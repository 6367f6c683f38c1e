"""The embedded corpus: sentences spoken by eSpeak NG on this machine."""

from hw_base.synthetic import corpus

__all__ = ["corpus"]
