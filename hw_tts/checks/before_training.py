"""Examinations of synthesis before training: durations, pitch, energy, cached features, speakers, the vocoder."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from hw_base.data.cache import LazyItemMaker
from hw_base.data.split import Split
from hw_base.examinations.findings import Finding, listed
from hw_base.nn.layers import length_mask
from hw_base.task import BaseTask
from hw_base.training.trainer import BaseTrainer
from hw_tts.vocoders.loading import BaseVocoder

# Of each of so many speakers so many utterances are compared.
_SPEAKERS, _EACH, _FEWEST = 8, 8, 4
# Mean difference of logarithms: a vocoder's own spectrogram against the one it was given. Griffin-Lim: 0.1 to 0.3.
_FAR = 1.0


def examine(
    trainer: BaseTrainer, task: BaseTask, batch: dict[str, Any], vocoder: BaseVocoder | None
) -> Iterator[Finding]:
    """Findings on a batch, on the speakers, and on the vocoder of the evaluations, if one is given."""
    yield from _durations(batch)
    yield from _pitch(batch)
    yield from _normalized(trainer, batch)
    cached = list(_cache(trainer.loader.split, task, batch))
    yield from cached
    yield from speakers_belong(trainer.loader.split, task)
    if vocoder is not None and all(one.level == "ok" for one in cached):
        yield from _vocoder(vocoder, task, batch, trainer.device)


def _durations(batch: Mapping[str, Any]) -> Iterator[Finding]:
    durations, frames = batch.get("durations"), batch.get("spectrogram_length")
    if durations is None or frames is None:
        return
    off = (durations.sum(1) - frames).abs()
    wrong = [name for name, n in zip(batch["utterance_id"], off.tolist(), strict=True) if n]
    if wrong:
        causes = ["the alignment has another hop length or sample rate", "it belongs to other audio"]
        evidence = f"off by up to {int(off.max())} frames: {listed(wrong)}"
        yield Finding("error", "durations do not sum to the frames", evidence, causes, "make the alignments again")
    else:
        yield Finding("ok", "durations sum to the frames")


def _pitch(batch: Mapping[str, Any]) -> Iterator[Finding]:
    pitch = batch.get("pitch")
    if pitch is None:
        return
    heard = pitch[torch.isfinite(pitch) & (pitch > 0)]
    median = float(heard.median()) if len(heard) else 0.0
    evidence = f"median {median:.4g} Hz"
    if len(heard) and not 50.0 <= median <= 600.0:
        causes = ["F0 is given in logarithms", "the tracker's floor or ceiling is wrong", "another sample rate"]
        yield Finding("error", "pitch is not F0 in Hz", evidence, causes, "look at features.args.pitch*")
    else:
        yield Finding("ok", "pitch is F0 in Hz", evidence)


def _normalized(trainer: BaseTrainer, batch: dict[str, Any]) -> Iterator[Finding]:
    """Whether the model's normalized targets of pitch and energy have a mean near 0 and a deviation near 1."""
    with trainer.without_trace(), torch.no_grad():
        moved = trainer.to_device(dict(batch))
        for _ in trainer.named_losses(moved):  # which puts the model's outputs into the batch
            pass
    length = moved.get("variance_length")
    for name in ("pitch", "energy"):
        target = moved.get(f"{name}_target")
        if not isinstance(target, Tensor) or not isinstance(length, Tensor):
            continue
        valid = target.float()[length_mask(length.to(target.device), target.shape[1])]
        mean, deviation = float(valid.mean()), float(valid.std())
        evidence = f"mean {mean:.3g}, deviation {deviation:.3g}"
        if abs(mean) < 3 and 0.05 < deviation < 5:
            yield Finding("ok", f"{name} is normalized", evidence)
        else:
            causes = [f"{name} in another unit: Hz where its logarithm is meant", "statistics of other data"]
            advice = "measure the statistics anew; look at log_pitch and features.args"
            yield Finding("error", f"{name} is not normalized", evidence, causes, advice)


def _cache(split: Split, task: BaseTask, batch: dict[str, Any], n: int = 2) -> Iterator[Finding]:
    """Whether the spectrograms of a batch are those that the features make of its audio today."""
    if not isinstance(split.make_item, LazyItemMaker):  # nothing is cached
        return
    places = {record.utterance_id: i for i, record in enumerate(split.records)}
    stale, worst = [], 0.0
    rows = zip(batch["utterance_id"], batch["spectrogram"], batch["spectrogram_length"].tolist(), strict=True)
    for name, row, length in list(rows)[:n]:
        fresh = task.features(split.waveform(places[name]))
        difference = float((fresh - row[:, :length]).abs().max()) if fresh.shape[1] == length else float("inf")
        worst = max(worst, difference)
        stale += [name] if difference > 0.05 else []
    if stale:
        causes = ["features were changed and their cache was not", "audio was changed in place, with its old times"]
        advice = "delete the folder 'features' of the cache; raise VERSION in hw_tts/features/cache.py with the code"
        evidence = f"off by up to {worst:.3g} in the logarithm: {listed(stale)}"
        yield Finding("error", "cached features are not those of the audio", evidence, causes, advice)
    else:
        yield Finding("ok", "cached features are those of the audio", f"they differ by at most {worst:.1g}")


def speakers_belong(split: Split, task: Any) -> Iterator[Finding]:
    """Whether utterances sound like the others of their speaker: mean spectrum and pitch, nearest mean of a speaker."""
    places: dict[str, list[int]] = {}
    for i, record in enumerate(split.records):
        places.setdefault(record.speaker, []).append(i)
    chosen = [(name, own[:: len(own) // _EACH or 1][:_EACH]) for name, own in places.items() if len(own) >= _FEWEST]
    chosen = chosen[:_SPEAKERS]
    if len(chosen) < 2:
        return
    names = [i for _, own in chosen for i in own]
    labels = torch.tensor([number for number, (_, own) in enumerate(chosen) for _ in own])
    voices = torch.stack([_voice(task, split, i) for i in names])
    voices = (voices - voices.mean(0)) / voices.std(0).clamp(min=1e-3)
    right = _nearest(voices, labels) == labels
    fraction, chance = float(right.float().mean()), 1.0 / len(chosen)
    odd = [split.records[i].utterance_id for i, fits in zip(names, right.tolist(), strict=True) if not fits]
    evidence = f"{fraction:.0%} of {len(names)} utterances sound like their speaker, {chance:.0%} would by chance"
    if fraction < chance + 0.35 * (1 - chance):
        causes = ["the table of speakers is shifted or shuffled against the audio", "one person under several names"]
        advice = "listen to two utterances of one speaker"
        evidence += f"; not: {listed(odd)}"
        yield Finding("error", f"{split.name}: speakers seem to belong to other audio", evidence, causes, advice)
    else:
        yield Finding("ok", f"{split.name}: speakers belong to their audio", evidence)


def _voice(task: Any, split: Split, i: int) -> Tensor:
    """Mean spectrum of the louder half of the frames, without its level, and the median pitch: (F + 1,)."""
    found = task.cache.get(split.records[i], lambda: split.waveform(i))
    spectrogram, pitch = found["spectrogram"], found["pitch"]
    level = spectrogram.mean(0)
    spectrum = spectrogram[:, level >= level.median()].mean(1)
    voiced = pitch[found["voiced"]]
    logarithm = voiced.median().log() if len(voiced) else torch.tensor(5.0)
    # Pitch weighs as much as a tenth of the bins.
    return torch.cat([spectrum - spectrum.mean(), logarithm.expand(max(1, len(spectrum) // 10))])


def _nearest(voices: Tensor, labels: Tensor) -> Tensor:
    """For each row (N, D) the label whose mean, taken without this row, is nearest: (N,)."""
    belongs = (labels[:, None] == torch.arange(int(labels.max()) + 1)).float()
    sums, counts = belongs.T @ voices, belongs.sum(0)
    own = belongs[:, :, None]
    means = (sums - own * voices[:, None]) / (counts - belongs).clamp(min=1)[:, :, None]
    nearest: Tensor = (means - voices[:, None]).norm(dim=2).argmin(1)
    return nearest


def _vocoder(vocoder: BaseVocoder, task: BaseTask, batch: dict[str, Any], device: torch.device) -> Iterator[Finding]:
    """Whether a vocoder gives back the spectrogram that it is given."""
    n = min(200, int(batch["spectrogram_length"][0]))
    given = batch["spectrogram"][:1, :, :n]
    waveform = vocoder(given.to(device))[0].cpu()
    again = task.features(waveform)[:, :n]
    audible = given[0, :, : again.shape[1]] > given.max() - 7.0  # 60 dB
    far = float((again - given[0, :, : again.shape[1]]).abs()[audible].mean())
    evidence = f"{type(vocoder).__name__}: {far:.2f} away in the logarithm"
    if far > _FAR:
        causes = ["the vocoder was trained on other mel constants", "it is not trained to the end"]
        advice = "use a vocoder of these features, or trainer.args.vocoder: null (Griffin-Lim)"
        yield Finding("error", "the vocoder does not understand the features", evidence, causes, advice)
    else:
        yield Finding("ok", "the vocoder understands the features", evidence)
