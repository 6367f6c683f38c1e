"""The tasks of this package: synthesis and vocoding."""

from hw_tts.tasks import synthesis, vocoding

__all__ = ["synthesis", "vocoding"]
