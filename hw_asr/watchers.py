"""Watchers of recognition: features that go in, posteriors that come out, decoders that disagree."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from hw_asr.losses.ctc import frames_needed
from hw_base.nn.layers import length_mask
from hw_base.watch.diagnosis import NOT_LEARNING, Diagnosis, InARow, Seen, Watcher

# Updates after the learning rate's peak during which a CTC model may emit blanks alone.
BLANK_PHASE = 300
# Utterances of a batch that a transducer decodes to be watched.
_DECODED = 4
# A model that uses blanks gives no letter in this many frames.
LETTER_FRACTION = 0.4


class Features(Watcher):
    """Spectrograms whose level is off, which are flat, or have bins without anything in them."""

    def __init__(self) -> None:
        self.off, self.flat, self.empty = InARow(2), InARow(2), InARow(3)

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        x, length = seen.batch.get("spectrogram"), seen.batch.get("spectrogram_length")
        if not isinstance(x, Tensor) or not isinstance(length, Tensor) or not x.numel():
            return
        mean, deviation, common, empty = _summary(x.float(), length.to(x.device))
        if not math.isfinite(mean):
            return
        if self.off(abs(mean) > 10 or deviation > 10):
            causes = ["no logarithm", "samples that are not scaled to [-1, 1]", "features.args.normalize is off"]
            evidence = {"mean": mean, "deviation": deviation}
            sentence = "features are not normalized: their level is far from 0"
            yield Diagnosis("features_not_normalized", sentence, evidence, causes, "normalize; look at features.args")
        if self.flat(deviation < 0.05 or common > 0.6):
            causes = ["masks that hide nearly everything", "the logarithm taken twice", "silent recordings"]
            sentence = f"features are flat: {common:.0%} of them are one and the same value"
            evidence = {"deviation": deviation, "fraction of one value": common}
            yield Diagnosis("features_flat", sentence, evidence, causes, "look at a spectrogram and at the masks")
        if self.empty(empty > 0.2 and deviation > 0.05):
            causes = ["audio of a lower sample rate than it claims", "mel bins above the recordings' band"]
            sentence = f"{empty:.0%} of the mel bins hold nothing"
            yield Diagnosis("bands_empty", sentence, {"fraction": empty}, causes, "compare sample rates; set f_max")


def _summary(x: Tensor, length: Tensor) -> list[float]:
    """Mean, deviation, fraction of the commonest value and fraction of empty bins, over valid frames; one wait."""
    mask = length_mask(length, x.shape[-1])[:, None].expand_as(x)
    valid = x[mask]
    fraction = (valid == valid.mode().values).float().mean() if valid.numel() < 10**6 else x.new_zeros(())
    # Normalization gives the floor of each utterance another value.
    floor = x.masked_fill(~mask, torch.inf).amin((1, 2), keepdim=True)
    fraction = torch.maximum(fraction, ((x - floor < 1e-3) & mask).sum() / mask.sum().clamp(min=1))
    count = mask[:, :1].sum(-1).clamp(min=1)
    mean = (x * mask).sum(-1) / count
    spread = (((x - mean[..., None]) * mask).square().sum(-1) / count).sqrt().amax(0)  # of each bin, its liveliest row
    empty = (spread < 0.1 * spread.median()).float().mean()
    return torch.stack([valid.mean(), valid.std(), fraction, empty]).tolist()


# What the doctor or another watcher may have said: no wonder that the outputs are odd then.
_OTHER_TARGETS = frozenset(
    {"output_lengths_wrong", "output_lengths_are_wrong", "targets_do_not_fit", "a_loss_is_negative"}
)


class Targets(Watcher):
    """Output lengths that are not those of the output, and transcripts that do not fit into them."""

    follows = {"targets_do_not_fit": frozenset({"output_lengths_wrong", "output_lengths_are_wrong"})}

    def __init__(self) -> None:
        self.lengths, self.tight = InARow(2), InARow(2)

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        log_probs, length, tokens = (seen.batch.get(key) for key in ("log_probs", "log_probs_length", "tokens"))
        if not isinstance(log_probs, Tensor) or not isinstance(length, Tensor):
            return
        longest, n_frames = int(length.max()), log_probs.shape[1]
        if self.lengths(longest != n_frames or len(length) != len(log_probs)):
            causes = ["output_lengths omits a stride, or rounds otherwise than the network", "axes are swapped"]
            evidence = {"longest length": longest, "frames of the output": n_frames, "shape": list(log_probs.shape)}
            sentence = "log_probs_length is not the length of log_probs"
            yield Diagnosis("output_lengths_wrong", sentence, evidence, causes, "correct output_lengths")
        if not isinstance(tokens, Tensor):
            return
        bad = (frames_needed(tokens.cpu(), seen.batch["tokens_length"].cpu()) > length.cpu()).tolist()
        names = [n for n, is_bad in zip(seen.batch.get("utterance_id", []), bad, strict=False) if is_bad]
        if self.tight(sum(bad) > 0.1 * len(bad)):
            causes = ["the model's stride is too large", "transcripts of other audio", "lengths that are too short"]
            sentence = f"{sum(bad)} of {len(bad)} transcripts of a batch do not fit their frames and teach nothing"
            evidence = {"utterances": names}
            yield Diagnosis("targets_do_not_fit", sentence, evidence, causes, "a smaller stride, or shorter tokens")


class _Peak:
    """The step at which the learning rate was highest so far."""

    def __init__(self) -> None:
        self.lr, self.step = 0.0, 0

    def look(self, seen: Seen) -> None:
        lr = max((one.lr for one in seen.optimizers.values()), default=0.0)
        if lr > self.lr:
            self.lr, self.step = lr, seen.step


class Posteriors(Watcher):
    """Outputs that are no distribution, stay flat, or collapse to blanks or to one symbol.

    Args:
        spell: text of tokens.
    """

    follows = {name: NOT_LEARNING | _OTHER_TARGETS for name in ("posteriors_flat", "one_symbol", "only_blanks")}

    def __init__(self, spell: Callable[[list[int]], str]) -> None:
        self.spell = spell
        self.unnormalized, self.flat, self.symbol, self.blank = InARow(2), InARow(4), InARow(4), InARow(4)
        self.peak = _Peak()

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        log_probs, length = seen.batch.get("log_probs"), seen.batch.get("log_probs_length")
        if not isinstance(log_probs, Tensor) or not isinstance(length, Tensor) or log_probs.dim() != 3:
            return
        self.peak.look(seen)
        measured = posteriors(log_probs.float(), length.to(log_probs.device))
        if measured is None:
            return
        low, high = measured["least sum"], measured["largest sum"]
        if not math.isfinite(measured["entropy"]):  # which the bad update reports
            return
        if self.unnormalized(not (low > 0.95 and high < 1.05)):
            causes = ["softmax over the wrong axis", "softmax twice", "no log_softmax at all", "a mask behind it"]
            evidence = {"least sum": low, "largest sum": high}
            sentence = "posteriors do not sum to 1 over the vocabulary"
            yield Diagnosis("posteriors_not_normalized", sentence, evidence, causes, "end with log_softmax(-1)")
            return
        yield from self._flat(measured, log_probs.shape[-1], seen.step)
        yield from self._collapsed(measured, seen.step)

    def _flat(self, measured: dict[str, float], n_tokens: int, step: int) -> Iterator[Diagnosis]:
        bound = math.e / (math.e + n_tokens - 1)  # of a softmax of probabilities, which are at most 1
        evidence = {key: measured[key] for key in ("largest probability", "entropy")}
        evidence["of a uniform one"] = math.log(n_tokens)
        if self.flat(
            step >= 30
            and measured["largest probability"] < 1.05 * bound
            and measured["entropy"] > 0.9 * math.log(n_tokens)
        ):
            causes = ["softmax twice", "the learning rate is too low", "no gradient reaches the output"]
            sentence = f"posteriors stay flat: no token ever gets more than {measured['largest probability']:.1%}"
            yield Diagnosis("posteriors_flat", sentence, evidence, causes, "look at the end of the model")

    def _collapsed(self, measured: dict[str, float], step: int) -> Iterator[Diagnosis]:
        best, fraction = int(measured["commonest"]), measured["fraction"]
        evidence: dict[str, Any] = {
            "fraction": fraction,
            "symbols": int(measured["symbols"]),
            "entropy": measured["entropy"],
        }
        if self.symbol(best != 0 and fraction > LETTER_FRACTION and step >= 30):
            shown = self.spell([best])
            causes = ["the loss takes another token than 0 for the blank", "targets that are all alike"]
            sentence = f"{fraction:.0%} of the frames say {shown!r}: the model emits one letter where blanks belong"
            yield Diagnosis("one_symbol", sentence, evidence, causes, "let loss, encoder and decoder agree: blank 0")
        normal = self.peak.step + BLANK_PHASE
        if self.blank(fraction > 0.97 and best == 0 and step > normal):
            causes = ["the learning rate is too high", "transcripts belong to other audio", "features carry no speech"]
            sentence = f"the model says nothing but blanks; that is normal in the first {normal} steps, no longer"
            yield Diagnosis("only_blanks", sentence, evidence, causes, "try --one-batch, then another learning rate")


class Emissions(Watcher):
    """A transducer that says nothing, repeats one token, or never takes the blank.

    Args:
        decode: encoder states (B, T, J) and lengths (B,) -> tokens of each utterance, greedily.
        spell: text of tokens.
    """

    follows = {name: Posteriors.follows["only_blanks"] for name in ("one_symbol", "only_blanks", "text_without_end")}

    def __init__(
        self, decode: Callable[[Tensor, Tensor], list[tuple[int, ...]]], spell: Callable[[list[int]], str]
    ) -> None:
        self.decode, self.spell = decode, spell
        self.endless, self.symbol, self.blank = InARow(4), InARow(4), InARow(4)
        self.peak = _Peak()

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        states, length = seen.batch.get("encoder_states"), seen.batch.get("log_probs_length")
        if not isinstance(states, Tensor) or not isinstance(length, Tensor) or not bool(torch.isfinite(states).all()):
            return
        self.peak.look(seen)
        tokens = [token for text in self.decode(states[:_DECODED], length[:_DECODED]) for token in text]
        n_frames, commonest = int(length[:_DECODED].sum()), max(set(tokens), key=tokens.count, default=0)
        fraction = tokens.count(commonest) / max(len(tokens), 1)
        evidence = {"tokens": len(tokens), "frames": n_frames, "fraction of the commonest": fraction}
        if self.endless(len(tokens) > n_frames and seen.step >= 30):
            causes = ["the loss takes another token than 0 for the blank", "the joiner does not see the encoder"]
            sentence = "the transducer says more tokens than there are frames: it hardly ever takes the blank"
            yield Diagnosis("text_without_end", sentence, evidence, causes, "look at the joiner and at the blank: 0")
        if self.symbol(fraction > 0.8 and LETTER_FRACTION * n_frames < len(tokens) <= n_frames and seen.step >= 30):
            causes = ["the predictor sees what it is to predict", "the joiner does not see the encoder"]
            sentence = f"{fraction:.0%} of what the transducer says is {self.spell([commonest])!r}"
            yield Diagnosis("one_symbol", sentence, evidence, causes, "look at predictor and joiner")
        normal = self.peak.step + BLANK_PHASE
        if self.blank(not tokens and n_frames > 0 and seen.step > normal):
            causes = ["the learning rate is too high", "transcripts belong to other audio", "too little weight on CTC"]
            sentence = f"the transducer says nothing; that is normal in the first {normal} steps, no longer"
            yield Diagnosis("only_blanks", sentence, evidence, causes, "try --one-batch, then another learning rate")


def posteriors(log_probs: Tensor, length: Tensor) -> dict[str, float] | None:
    """What valid frames are like: sums over the vocabulary, certainty, and which symbols are the best ones."""
    mask = length_mask(length, log_probs.shape[1])
    rows = log_probs[mask[: len(log_probs)]] if len(mask) == len(log_probs) else log_probs.flatten(0, 1)
    if not len(rows):
        return None
    p = rows.exp()
    sums = p.sum(-1)
    counts = torch.bincount(rows.argmax(-1), minlength=rows.shape[-1])
    entropy = -(p * rows.clamp(min=-100)).sum(-1).mean()
    values = [sums.min(), sums.max(), p.max(), entropy, counts.argmax(), counts.max() / len(rows), (counts > 0).sum()]
    names = ("least sum", "largest sum", "largest probability", "entropy", "commonest", "fraction", "symbols")
    return dict(zip(names, torch.stack([v.float() for v in values]).tolist(), strict=True))


class LanguageModel(Watcher):
    """A decoder with a language model that is much worse than the one without.

    Args:
        plain: name of a decoder without a language model.
        others: names of decoders with one.
        metric: an error rate of the config.
    """

    def __init__(self, plain: str, others: list[str], metric: str) -> None:
        self.plain, self.others, self.metric = plain, others, metric
        self.worse = InARow(2)

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        splits = {key.rpartition("/")[0] for key in seen.evaluation}
        for split in sorted(splits):
            rates = _rates(seen.evaluation, split, self.metric, [self.plain, *self.others])
            own = rates.pop(self.plain, math.nan)
            drowned = {name: rate for name, rate in rates.items() if own < 0.6 and rate > own + 0.1}
            if self.worse(bool(drowned)):
                causes = ["lm_weight is too large", "another alphabet or another case in the language model"]
                sentence = "the language model drowns the acoustics: decoding with it is worse than without"
                evidence = {f"{self.metric}_{self.plain}": own, **drowned}
                yield Diagnosis("lm_drowns_acoustics", sentence, evidence, causes, "python -m hw_asr.tune_decoder")


def _rates(values: Mapping[str, float], split: str, metric: str, decoders: list[str]) -> dict[str, float]:
    keys = {name: f"{split}/{metric}_{name}" for name in decoders}
    return {name: values[key] for name, key in keys.items() if key in values}
