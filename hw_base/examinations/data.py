"""Examinations of the splits; they read some audio and all texts."""

import contextlib
import math
import statistics
from collections import Counter
from collections.abc import Iterator

import torch
from torch import Tensor

from hw_base.data.dataset import Record
from hw_base.data.split import Split
from hw_base.errors import DataError
from hw_base.examinations.findings import Finding, Level, listed
from hw_base.metrics import count_edits
from hw_base.recognizer import Recognizer
from hw_base.task import BaseTask

_N_DECODED = 16
# Fewer utterances, or single words, show no relation of text and duration.
_MIN_RELATED, _MIN_LETTERS = 40, 20
_MIN_SPOKEN = 4
# So many utterances are recognized and compared with so many transcripts.
_N_HEARD, _N_COMPARED = 12, 200
_CLIPPED = 0.999
# Letters a second, pauses included: people read 10 to 20, digit by digit 7; a single word in a second of silence 4.
_FASTEST, _SLOWEST, _PARTIAL = 24.0, 8.0, 3.5
# Fraction of the power above half of the band: speech has 1e-3 and more there, resampled audio 2e-5 and less.
_EMPTY = 5e-5


def _spread(split: Split, n: int) -> list[int]:
    return list(range(len(split)))[:: max(1, len(split) // n)][:n]


def decodes(split: Split, name_unreadable: bool = True) -> Iterator[Finding]:
    """Some utterances are read; silence, clipping and signs of a wrong sample rate are measured.

    Args:
        split: of the experiment.
        name_unreadable: report utterances that cannot be read. A run does so itself, as ``on_bad_data`` says.
    """
    bad, silent, clipped = [], [], []
    heard: list[tuple[Record, Tensor]] = []
    for i in _spread(split, _N_DECODED):
        name = split.records[i].utterance_id
        try:
            waveform = split.waveform(i)
        except DataError as error:
            bad.append(f"{name} ({error})")
            continue
        if float(waveform.abs().max()) < 1e-3:
            silent.append(name)
        else:
            heard.append((split.records[i], waveform))
        if float((waveform.abs() >= _CLIPPED).float().mean()) > 0.01:
            clipped.append(name)
    n = len(_spread(split, _N_DECODED))
    if bad and name_unreadable:
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
    if heard:
        yield from _sample_rate(split, heard)


def _sample_rate(split: Split, heard: list[tuple[Record, Tensor]]) -> Iterator[Finding]:
    """Whether audio lasts as long as its index says, is spoken as fast as people speak, and fills its band."""
    rate = split.sample_rate
    seconds = [len(waveform) / rate for _, waveform in heard]
    longer = [s / max(record.duration, 1e-3) for (record, _), s in zip(heard, seconds, strict=True)]
    speeds = [len(r.text) / s for (r, _), s in zip(heard, seconds, strict=True) if r.text]
    speed = statistics.median(speeds) if len(speeds) >= _MIN_SPOKEN else math.nan
    empty = statistics.median(_fraction_above_half(waveform) for _, waveform in heard) < _EMPTY
    evidence = f"{len(heard)} utterances" if math.isnan(speed) else f"{speed:.1f} letters a second"
    if statistics.median(longer) > 1.2:
        causes = ["the sample rate in the files is not that of the index", "the index is of other files"]
        evidence = f"the audio lasts {statistics.median(longer):.2f} times as long"
        what = f"{split.name}: durations of the index are not those of the audio"
        yield Finding("error", what, evidence, causes, "compare the sample rates of files and index; make it anew")
    elif speed > _FASTEST:
        causes = ["audio of 8 kHz is read as 16 kHz", "transcripts hold more than what is said"]
        what = f"{split.name}: speech is implausibly fast"
        yield Finding("error", what, evidence, causes, "listen to an utterance; correct the sample rate in its header")
    elif speed < _SLOWEST and empty:
        causes = ["audio of 16 kHz is read as 8 kHz", "single words with long pauses, recorded by telephone"]
        what = f"{split.name}: slow speech without anything above {rate / 4:g} Hz"
        yield Finding("error", what, evidence, causes, "listen to an utterance; correct the sample rate in its header")
    elif speed < _PARTIAL:
        causes = ["transcripts hold only a part of what is said", "long silence around the speech"]
        what = f"{split.name}: transcripts are short for their audio"
        yield Finding("warning", what, evidence, causes, "listen to an utterance beside its text; cut silence off")
    elif empty:
        causes = ["recorded at a lower sample rate", "coded with a low bit rate"]
        what = f"{split.name}: nothing above {rate / 4:g} Hz"
        yield Finding("warning", what, evidence, causes, "lower features.args.sample_rate, or f_max")
    else:
        yield Finding("ok", f"{split.name}: speed and band are those of speech", evidence)


def _fraction_above_half(waveform: Tensor) -> float:
    """Fraction of the power above half of the band, and above what resampling leaves there."""
    window = torch.hann_window(len(waveform), dtype=torch.float64)
    power = torch.fft.rfft(waveform.double() * window).abs().square()
    return float(power[len(power) * 9 // 16 :].sum() / power.sum().clamp(min=1e-12))


def alphabet(split: Split, task: BaseTask) -> Iterator[Finding]:
    """How much of the texts the vocabulary lacks."""
    counts: Counter[str] = Counter()
    total = 0
    for record in split.records:
        counts.update(task.unknown(record))
        total += len(record.text or "")
    fraction = sum(counts.values()) / max(total, 1)
    if fraction <= 0.01:
        yield Finding(
            "ok", f"{split.name}: the vocabulary covers the texts", f"{fraction:.2%} of the characters unknown"
        )
        return
    shown = ", ".join(f"{symbol!r} {n}" for symbol, n in counts.most_common(8))
    causes = ["text_encoder's alphabet is that of another language", "texts are not cleaned"]
    level: Level = "error" if fraction > 0.2 else "warning"
    evidence = f"{fraction:.1%} of the characters unknown: {shown}"
    yield Finding(
        level, f"{split.name}: the vocabulary lacks symbols", evidence, causes, "correct text_encoder or texts"
    )


def transcripts_belong(split: Split) -> Iterator[Finding]:
    """Whether texts differ, and longer ones take longer: by ranks of text lengths and durations, and by outliers."""
    texts = [record.text for record in split.records if record.text]
    if len(texts) >= _MIN_RELATED and len(set(texts)) == 1:
        causes = ["one text was given to all recordings", "the list's columns are mistaken for each other"]
        what, evidence = f"{split.name}: all transcripts are the same", f"{len(texts)} times {texts[0][:60]!r}"
        yield Finding("error", what, evidence, causes, "look at the list of transcripts")
        return
    pairs = [(len(r.text), r.duration, r.utterance_id) for r in split.records if r.text and r.duration > 0]
    if len(pairs) < _MIN_RELATED or statistics.median(pair[0] for pair in pairs) < _MIN_LETTERS:
        return
    letters, seconds = (torch.tensor([pair[i] for pair in pairs], dtype=torch.float64) for i in (0, 1))
    ranks = torch.stack([letters.argsort().argsort(), seconds.argsort().argsort()]).double()
    related = float(torch.corrcoef(ranks)[0, 1])
    rates = (letters / seconds).log()
    center = float(rates.median())
    spread = max(statistics.median((rates - center).abs().tolist()) * 1.4826, 0.1)
    far = [abs(rate - center) > 8 * spread for rate in rates.tolist()]
    odd = [name for (n, _, name), is_far in zip(pairs, far, strict=True) if is_far and n >= _MIN_LETTERS]
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


def understood(split: Split, recognizer: Recognizer) -> Iterator[Finding]:
    """Whether what a recognizer hears in an utterance is nearest to its own transcript, among those of others."""
    written = {i: recognizer.normalize(split.records[i].text or "") for i in _spread(split, _N_COMPARED)}
    written = {i: text for i, text in written.items() if text}
    waveforms: dict[int, Tensor] = {}
    for i in list(written)[:: max(1, len(written) // _N_HEARD)][:_N_HEARD]:
        with contextlib.suppress(DataError):  # `decodes` says what cannot be read
            waveforms[i] = split.waveform(i)
    if len(written) < 2 or not waveforms:
        return
    heard = recognizer.transcribe_batch(list(waveforms.values()), split.sample_rate)
    foreign, rates = [], []
    for i, text in zip(waveforms, heard, strict=True):
        distances = {j: count_edits(other, text).distance / len(other) for j, other in written.items()}
        nearest = min(distances, key=distances.__getitem__)
        rates.append(distances[nearest])
        if distances[i] > max(0.5, distances[nearest] + 0.1):
            name, other = split.records[i].utterance_id, split.records[nearest].utterance_id
            foreign.append(f"{name} sounds like {text!r}, nearest to {other}")
    if statistics.median(rates) > 0.7:
        causes = ["it was trained on another language, or on other recordings", "the audio is no speech"]
        evidence = f"median distance {statistics.median(rates):.0%} to the nearest of {len(written)} transcripts"
        advice = "give a better recognizer"
        yield Finding("warning", f"{split.name}: the recognizer understands nothing", evidence, causes, advice)
    elif foreign:
        level: Level = "error" if len(foreign) > 0.2 * len(heard) else "warning"
        causes = ["the list of texts is shifted or shuffled against the audio", "single wrong transcripts"]
        evidence = f"{len(foreign)} of {len(heard)}: {listed(foreign, 3)}"
        what = f"{split.name}: a recognizer hears other texts"
        yield Finding(level, what, evidence, causes, "listen to these utterances beside their texts")
    else:
        yield Finding("ok", f"{split.name}: a recognizer hears the transcripts", f"{len(heard)} utterances")


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
