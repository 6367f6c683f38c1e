"""Recognisers as other tasks use them: a checkpoint that turns audio into text and into frame-wise posteriors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hw_base import checkpoint, packages
from hw_base.config import build, resolve
from hw_base.errors import CheckpointError, ConfigError
from hw_base.model import BaseModel
from hw_base.registry import MODELS, TASKS
from hw_base.schema import Config

if TYPE_CHECKING:
    from hw_base.task import BaseTask  # which names `Recognizer`


class Recognizer(ABC):
    """Audio to text.

    Attributes:
        frame_seconds: from one frame of the posteriors to the next.
    """

    frame_seconds: float

    @abstractmethod
    def transcribe(self, waveforms: Sequence[Tensor], sample_rate: int) -> list[str]:
        """What is said, in the normalised writing of `normalize`.

        Args:
            waveforms: each (S,), float, of any length; an empty one is silence.
            sample_rate: of all of them, in Hz.
        """

    @abstractmethod
    def posteriors(self, waveforms: Sequence[Tensor], sample_rate: int) -> tuple[Tensor, Tensor]:
        """Probabilities of the tokens in each frame, of one padded batch.

        Args:
            waveforms: each (S,), float.
            sample_rate: of all of them, in Hz.

        Returns:
            log_probs (Tensor): natural log, float32, blank at 0, (B, T, V).
            length (Tensor): valid frames, (B,), int64.
        """

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without blanks."""

    @abstractmethod
    def symbol(self, token_id: int) -> str:
        """How a token is spelled; empty for the blank."""

    @abstractmethod
    def normalize(self, text: str) -> str:
        """The writing in which a text can be compared with a transcript."""


def load_recognizer(path: str | Path, device: str | torch.device = "cpu") -> Recognizer:
    """Rebuild a recogniser from its checkpoint alone, whatever package its task stands in.

    Neither the state of the random generators nor what autocast is set to makes a difference, and is not changed.

    Args:
        path: checkpoint, as a training run or the averaging of one wrote it.
        device: where it computes.

    Raises:
        CheckpointError: missing, damaged, not a checkpoint, or its weights do not fit its own config.
        ConfigError: the checkpoint of another task, or of a config that this version does not accept.
    """
    state = checkpoint.load(path)
    config = _config(path, state)
    try:
        task: BaseTask = TASKS[config.task](config)
        task.text_encoder.load_state_dict(state["text_encoder"])
        task.load_state_dict(state.get("task", {}))
        with torch.random.fork_rng(devices=[]):
            model: BaseModel = build("model", config.model, MODELS, **task.model_arguments())
        recognizer: Recognizer = task.recognizer(model, torch.device(device))
    except ConfigError as error:
        raise ConfigError(f"{path}: {_one_line(error)}") from None
    checkpoint.load_weights(model, state["model"], path)
    return recognizer


def _config(path: str | Path, state: dict[str, Any]) -> Config:
    """The checkpoint's own config, with its task registered."""
    missing = {"config", "model", "text_encoder"} - state.keys()
    if missing or not isinstance(state["config"], dict):
        lacks = f"no {', '.join(sorted(missing))} in it" if missing else "its config is no mapping"
        raise CheckpointError(f"{path}: not the checkpoint of a recogniser: {lacks}")
    if state["config"].get("task") not in TASKS:
        packages.import_all()
    try:
        return resolve(state["config"])
    except ConfigError as error:
        raise ConfigError(f"{path}: its config is not accepted: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    first, *others = str(error).splitlines()
    return f"{first} (and {len(others)} more)" if others else first
