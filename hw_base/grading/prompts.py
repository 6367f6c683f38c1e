"""What a submission that is run is given: the hidden utterances under neutral names, among clips that test honesty."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from hw_base.audio import io as audio
from hw_base.grading.contract import Item, TaskGrading
from hw_base.grading.settings import Checks

Purpose = Literal["scored", "silence", "noise", "twin", "fresh"]
_CLIP_SECONDS = 2.0
_NOISE_LEVEL = 0.02
_RATE = 16000


@dataclass(frozen=True)
class Prompt:
    """One clip or text under a name that says nothing.

    Attributes:
        name: neutral.
        purpose: what it is there for.
        item: the utterance; of a twin the one that it repeats; of silence and noise one without a text.
    """

    name: str
    purpose: Purpose
    item: Item


def choose(items: Sequence[Item], grading: TaskGrading, checks: Checks, seed: str, cache: Path) -> list[Prompt]:
    """All hidden utterances and the clips of the checks, in an order drawn by `seed`.

    Texts to be spoken get no clips among them: a synthesizer may say the same text in two ways.
    """
    generator = random.Random(seed)
    chosen: list[tuple[Purpose, Item]] = [("scored", item) for item in items]
    if grading.given == "audio":
        chosen += [("silence", Item(f"silence-{i}", "", None, None)) for i in range(checks.silence)]
        chosen += [("noise", Item(f"noise-{i}", "", None, None)) for i in range(checks.noise)]
        chosen += [("twin", item) for item in generator.sample(list(items), min(checks.twins, len(items)))]
        chosen += [("fresh", item) for item in fresh_items(checks.fresh, generator.getrandbits(31), cache)]
    generator.shuffle(chosen)
    names = generator.sample(range(10**6), len(chosen))
    return [Prompt(f"u{name:06d}", purpose, item) for name, (purpose, item) in zip(names, chosen, strict=True)]


def fresh_items(count: int, seed: int, cache: Path) -> list[Item]:
    """Sentences that were never spoken before, from the embedded corpus."""
    if not count:
        return []
    from hw_base.synthetic.corpus import SyntheticSpeech

    corpus = SyntheticSpeech("test", n_utterances=count, seed=seed, n_processes=1, cache_dir=str(cache))
    return [Item(f"fresh-{i}", "", r.text, Path(r.audio_path)) for i, r in enumerate(corpus.records)]


def again(prompts: Sequence[Prompt], count: int, seed: str) -> list[Prompt]:
    """Some of the hidden utterances under other names, for a second run."""
    generator = random.Random(seed)
    scored = [prompt for prompt in prompts if prompt.purpose == "scored"]
    names = generator.sample(range(10**6), min(count, len(scored)))
    picked = generator.sample(scored, len(names))
    return [replace(prompt, name=f"r{name:06d}") for name, prompt in zip(names, picked, strict=True)]


def write(prompts: Sequence[Prompt], grading: TaskGrading, folder: Path) -> float:
    """Write what is given into ``folder/audio`` or ``folder/transcriptions``; the seconds of audio.

    Recordings are rewritten, so that neither names, nor tags, nor times of change tell where they come from.
    """
    place = folder / ("audio" if grading.given == "audio" else "transcriptions")
    place.mkdir(parents=True)
    seconds = 0.0
    for number, prompt in enumerate(prompts):
        if grading.given == "text":
            (place / f"{prompt.name}.txt").write_text(f"{prompt.item.text}\n", encoding="utf-8")
            continue
        waveform, rate = _waveform(prompt, number)
        audio.save(place / f"{prompt.name}.wav", waveform, rate)
        seconds += len(waveform) / rate
    return seconds


def _waveform(prompt: Prompt, number: int) -> tuple[Tensor, int]:
    if prompt.item.audio is not None:
        return audio.load(prompt.item.audio)
    level = _NOISE_LEVEL if prompt.purpose == "noise" else 0.0
    generator = torch.Generator().manual_seed(number)
    return level * torch.randn(int(_CLIP_SECONDS * _RATE), generator=generator), _RATE
