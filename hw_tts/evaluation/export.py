"""A synthesizer as a graph: the symbols of one text, the speaker and the controls in, a waveform out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hw_base.errors import ConfigError
from hw_base.exports.contract import Graph, TaskExport, Tensors
from hw_base.trained import Trained
from hw_tts.models.base import SynthesisModel
from hw_tts.vocoders.hifigan import HiFiGANVocoder
from hw_tts.vocoders.loading import load_vocoder

OUTPUTS = ("waveform", "durations")


class Spoken(nn.Module):
    """Model and vocoder in one, for one text.

    Args:
        model: prepared for inference.
        vocoder: of models that make spectrograms.
        names: of the inputs in their order: ``tokens`` (L,), perhaps ``speaker`` (), and controls.
    """

    def __init__(self, model: SynthesisModel, vocoder: HiFiGANVocoder | None, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.generator, self.names = model, None if vocoder is None else vocoder.generator, tuple(names)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs as named; the outputs are `OUTPUTS`: (S,) in [-1, 1], and frames of each symbol (L,), int64."""
        given = dict(zip(self.names, inputs, strict=True))
        tokens = given.pop("tokens")[None]
        speaker = given.pop("speaker", None)
        output = self.model.synthesize(
            tokens=tokens,
            tokens_length=torch.full((1,), tokens.shape[1], dtype=torch.int64),
            speaker_id=None if speaker is None else speaker.reshape(1),
            **given,
        )
        waveform = output["waveform"] if self.generator is None else self.generator(output["spectrogram"]).squeeze(1)
        return waveform[0].clamp(-1.0, 1.0), output["durations"][0]


class TTSExport(TaskExport):
    """See `TaskExport`."""

    def graph(self, opened: Trained, vocoder: Path | None) -> Graph:
        model = opened.model
        task: Any = opened.task  # a SynthesisTask, which this module must not import: it stands above
        assert isinstance(model, SynthesisModel)
        name = opened.config.model.type
        if model.trains_on_waveform and vocoder is not None:
            raise ConfigError(f"{opened.path}: {name} makes audio itself and needs no --vocoder")
        if not model.trains_on_waveform and vocoder is None:
            reason = "makes spectrograms: add --vocoder CKPT, a HiFiGAN; Griffin-Lim has no graph"
            raise ConfigError(f"{opened.path}: {name} {reason}")
        made = None if vocoder is None else load_vocoder(vocoder, task.features)
        assert made is None or isinstance(made, HiFiGANVocoder)
        model.prepare_for_inference().requires_grad_(False)
        speakers: list[str] = task.speakers if len(task.speakers) > 1 else []
        controls = model.exported_controls()
        axes: dict[str, dict[int, str]] = {"tokens": {0: "symbols"}}
        axes |= {"speaker": {}} if speakers else {}
        axes |= {key: {value.dim() - 1: f"{key}_length"} if value.dim() else {} for key, value in controls.items()}
        spoken = Spoken(model, made, list(axes))
        return Graph(
            network=spoken,
            axes=axes,
            outputs=OUTPUTS,
            cases=_cases(len(task.text_encoder), len(speakers), controls),
            expected=lambda case: dict(zip(OUTPUTS, spoken(*(case[key] for key in axes)), strict=True)),
            metadata={
                "task": "tts",
                "model": name,
                "sample_rate": task.features.sample_rate,
                "hop_length": task.features.hop_length,
                "speakers": speakers,
                "text_front_end": {"type": opened.config.text_encoder.type, "args": opened.config.text_encoder.args},
                "symbols": ["", *task.text_encoder.table],
                "blank": 0 if task.text_encoder.add_blank else None,
            },
        )


EXPORT = TTSExport()


def _cases(n_symbols: int, n_speakers: int, controls: Mapping[str, Tensor]) -> Sequence[Tensors]:
    """Random symbols: short and long texts, every control at several values."""
    generator = torch.Generator().manual_seed(0)
    cases: list[dict[str, Tensor]] = []
    for number, length in enumerate((21, 1, 5, 60, 150, 9, 33)):
        case = {"tokens": torch.randint(1, n_symbols, (length,), generator=generator)}
        if n_speakers:
            case["speaker"] = torch.tensor(number % n_speakers)
        for place, (name, value) in enumerate(controls.items()):
            factor = (1.0, 1.0, 0.8, 1.3)[(number + place) % 4]
            size = (*value.shape[:-1], max(2, value.shape[-1] - 7 * number)) if value.dim() else ()
            case[name] = torch.randn(size, generator=generator) * 0.667 if value.dim() else torch.tensor(factor)
        cases.append(case)
    return cases
