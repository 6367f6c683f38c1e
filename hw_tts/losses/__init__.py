"""Losses of synthesis."""

from hw_tts.losses import acoustic, adversarial, alignment, vits2

__all__ = ["acoustic", "adversarial", "alignment", "vits2"]
