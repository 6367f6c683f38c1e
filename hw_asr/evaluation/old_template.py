"""Checkpoints of the course's older template, for models that are registered here under the same names of tensors."""

import string
from typing import Any

from hw_base import registry
from hw_base.config.resolve import as_dict, build, resolve
from hw_base.errors import ConfigError
from hw_base.grading.outcome import ExitCode, SubmissionError

# Its CTC vocabulary: the blank, the letters, the space.
_ALPHABET = string.ascii_lowercase + " "
# torchaudio's MelSpectrogram, by the names of its arguments, and the logarithm's floor of the template.
_FEATURES: dict[str, Any] = {"n_fft": 400, "n_mels": 128, "f_min": 0.0, "f_max": None}
_EPS = 1e-5
# Sizes of the input and of the vocabulary, which are known here from the features and the alphabet.
_GIVEN_ELSEWHERE = ("n_feats", "n_class", "n_tokens", "n_mels")


def convert(weights: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of this project.

    Args:
        weights: its ``state_dict``; ``module.`` before every name, from training on several GPUs, is dropped.
        config: its ``config.json`` with ``arch`` and ``preprocessing``.

    Raises:
        SubmissionError: the model is not registered here, or its tensors have other names or shapes.
    """
    try:
        checked = resolve(_config(config))
        task: Any = registry.TASKS["asr"](checked)
        model = build("model", checked.model, registry.MODELS, **task.model_arguments())
    except ConfigError as error:
        reason = str(error).splitlines()[0]
        raise _refusal(f"its config has no counterpart here ({reason})") from None
    plain = {name.removeprefix("module."): value for name, value in weights.items()}
    own = model.state_dict()
    differing = sorted(name for name in own.keys() | plain.keys() if _shape(own, name) != _shape(plain, name))
    if differing:
        shown = ", ".join(differing[:5]) + (f" and {len(differing) - 5} more" if len(differing) > 5 else "")
        raise _refusal(f"{len(differing)} tensors of {checked.model.type} differ in name or shape ({shown})")
    return {
        "config": as_dict(checked),
        "model": plain,
        "text_encoder": task.text_encoder.state_dict(),
        "task": task.state_dict(),
    }


def _config(old: dict[str, Any]) -> dict[str, Any]:
    arch, preprocessing = old.get("arch"), old.get("preprocessing")
    if not isinstance(arch, dict) or not isinstance(preprocessing, dict):
        raise _refusal("its config.json has no 'arch' and 'preprocessing'")
    spectrogram = preprocessing.get("spectrogram", {})
    given = dict(spectrogram.get("args", {})) if isinstance(spectrogram, dict) else {}
    n_fft = given.get("n_fft", _FEATURES["n_fft"])
    win_length = given.pop("win_length", None) or n_fft
    features = {**_FEATURES, "win_length": win_length, "hop_length": given.pop("hop_length", None) or win_length // 2}
    rate = preprocessing.get("sr", 16000)
    features |= {**given, "sample_rate": given.get("sample_rate", rate), "eps": _EPS, "normalize": "none"}
    arguments = {name: value for name, value in (arch.get("args") or {}).items() if name not in _GIVEN_ELSEWHERE}
    if not preprocessing.get("log_spec", True):
        raise _refusal("it was trained on spectrograms without a logarithm")
    return {
        "task": "asr",
        "name": "old_template",
        "data": {"test": {"datasets": [{"type": "CustomDir", "args": {"root": "data"}}]}},
        "features": {"type": "LogMelSpectrogram", "args": features},
        "text_encoder": {"type": "CharTextEncoder", "args": {"alphabet": _ALPHABET}},
        "model": {"type": arch.get("type"), "args": arguments},
        "losses": {"ctc": 1.0},
        "optimizers": {"model": {"type": "AdamW", "args": {"lr": 0.001}}},
        "trainer": {"max_steps": 1},
        "decoders": {"argmax": "Greedy"},
    }


def _shape(tensors: dict[str, Any], name: str) -> Any:
    return tuple(tensors[name].shape) if name in tensors else None


def _refusal(reason: str) -> SubmissionError:
    known = ", ".join(sorted(registry.MODELS))
    return SubmissionError(
        ExitCode.INVALID,
        f"this checkpoint of the older template cannot be mapped: {reason}. Registered models: {known}. "
        "Grade it with a command that runs its own code",
    )
