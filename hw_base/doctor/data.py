"""Examinations of the splits; they read some audio and all texts."""

import statistics
from collections import Counter
from collections.abc import Iterator

import torch

from hw_base.data.split import Split
from hw_base.doctor.findings import Finding, Level, listed
from hw_base.errors import DataError
from hw_base.task import BaseTask

_N_DECODED = 16
# Fewer utterances show no relation of text and duration.
_MIN_RELATED = 40
_CLIPPED = 0.999


def _spread(split: Split, n: int) -> list[int]:
    return list(range(len(split)))[:: max(1, len(split) // n)][:n]


def decodes(split: Split) -> Iterator[Finding]:
    """Some utterances are read; silence and clipping are measured."""
    bad, silent, clipped = [], [], []
    for i in _spread(split, _N_DECODED):
        name = split.records[i].utterance_id
        try:
            waveform = split.waveform(i)
        except DataError as error:
            bad.append(f"{name} ({error})")
            continue
        if float(waveform.abs().max()) < 1e-3:
            silent.append(name)
        if float((waveform.abs() >= _CLIPPED).float().mean()) > 0.01:
            clipped.append(name)
    n = len(_spread(split, _N_DECODED))
    if bad:
        causes = ["files are damaged or missing", "the folder of the corpus is another one"]
        yield Finding(
            "error", f"{split.name}: audio cannot be read", listed(bad, 2), causes, "mend or remove the files"
        )
    if silent:
        causes = ["recordings failed", "samples are integers scaled twice"]
        yield Finding(
            "warning", f"{split.name}: next to silence", listed(silent), causes, "listen to them; remove them"
        )
    if clipped:
        causes = ["recordings are too loud", "samples are not scaled to [-1, 1]"]
        yield Finding("warning", f"{split.name}: clipped at full scale", listed(clipped), causes, "listen to them")
    if not bad and not silent and not clipped:
        yield Finding("ok", f"{split.name}: audio decodes", f"{n} of {len(split)} utterances read")


def alphabet(split: Split, task: BaseTask) -> Iterator[Finding]:
    """How much of the texts the vocabulary lacks."""
    counts: Counter[str] = Counter()
    total = 0
    for record in split.records:
        counts.update(task.unknown(record))
        total += len(record.text or "")
    share = sum(counts.values()) / max(total, 1)
    if share <= 0.01:
        yield Finding("ok", f"{split.name}: the vocabulary covers the texts", f"{share:.2%} of the characters unknown")
        return
    shown = ", ".join(f"{symbol!r} {n}" for symbol, n in counts.most_common(8))
    causes = ["text_encoder's alphabet is that of another language", "texts are not cleaned"]
    level: Level = "error" if share > 0.2 else "warning"
    evidence = f"{share:.1%} of the characters unknown: {shown}"
    yield Finding(
        level, f"{split.name}: the vocabulary lacks symbols", evidence, causes, "correct text_encoder or texts"
    )


def transcripts_belong(split: Split) -> Iterator[Finding]:
    """Whether longer texts take longer: by ranks of text lengths and durations, and by outliers of the rate."""
    pairs = [(len(r.text), r.duration, r.utterance_id) for r in split.records if r.text and r.duration > 0]
    if len(pairs) < _MIN_RELATED:
        return
    letters, seconds = (torch.tensor([pair[i] for pair in pairs], dtype=torch.float64) for i in (0, 1))
    ranks = torch.stack([letters.argsort().argsort(), seconds.argsort().argsort()]).double()
    related = float(torch.corrcoef(ranks)[0, 1])
    rates = (letters / seconds).log()
    center = float(rates.median())
    spread = max(statistics.median((rates - center).abs().tolist()) * 1.4826, 0.1)
    odd = [p[2] for p, rate in zip(pairs, rates.tolist(), strict=True) if abs(rate - center) > 6 * spread]
    evidence = f"rank correlation {related:.2f} of text length and duration over {len(pairs)} utterances"
    varied = float(seconds.std()) > 0.15 * float(seconds.mean()) and float(letters.std()) > 0.15 * float(letters.mean())
    if varied and related < 0.25:
        causes = ["the list of texts is shifted or shuffled against the audio", "durations are wrong"]
        advice = "listen to a few utterances beside their texts"
        yield Finding("error", f"{split.name}: transcripts seem to belong to other audio", evidence, causes, advice)
    elif odd:
        causes = ["these transcripts belong to other audio", "long pauses or cut recordings"]
        yield Finding("warning", f"{split.name}: odd speaking rates", listed(odd), causes, "listen to these utterances")
    else:
        yield Finding("ok", f"{split.name}: transcripts fit their audio", evidence)


def apart(splits: dict[str, Split], train: str) -> Iterator[Finding]:
    """Whether an utterance of training stands in another split too."""
    own = {record.audio_path for record in splits[train].records}
    for name, split in splits.items():
        if name == train:
            continue
        shared = [r.utterance_id for r in split.records if r.audio_path in own]
        if shared:
            causes = ["both splits read the same folder or part"]
            advice = f"give data.{name} utterances of its own"
            evidence = f"{len(shared)} of {len(split)}: {listed(shared)}"
            yield Finding("error", f"{train} and {name} share utterances", evidence, causes, advice)
            continue
        speakers = {r.speaker for r in splits[train].records} & {r.speaker for r in split.records} - {""}
        note = f"{len(speakers)} speakers in both" if speakers else "no speaker in both"
        yield Finding("ok", f"{train} and {name} share no utterance", note)
