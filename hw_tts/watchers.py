"""Watchers of synthesis: alignments, pitch, energy and durations, and discriminators that win."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from hw_base.nn.layers import length_mask
from hw_base.watch.diagnosis import Diagnosis, InARow, Seen, Watcher

# Steps in which a learned alignment may still be anything.
ALIGNMENT_PHASE = 500


class Alignment(Watcher):
    """A learned alignment whose likeliest token goes back from frame to frame, though speech does not."""

    def __init__(self) -> None:
        self.jumping = InARow(4)

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        log_probs, length = seen.batch.get("alignment_log_probs"), seen.batch.get("spectrogram_length")
        if not isinstance(log_probs, Tensor) or not isinstance(length, Tensor):
            return
        best = log_probs.argmax(-1)
        mask = length_mask(length.to(best.device), best.shape[1])[:, 1:]
        back = float((((best[:, 1:] < best[:, :-1]) & mask).sum() / mask.sum().clamp(min=1)).item())
        if self.jumping(back > 0.2 and seen.step > ALIGNMENT_PHASE):
            causes = [
                "the alignment losses weigh too little",
                "texts belong to other audio",
                "a learning rate too high",
            ]
            sentence = f"the learned alignment goes back in {back:.0%} of the frames; normal until {ALIGNMENT_PHASE}"
            evidence = {"fraction of frames": back}
            advice = "raise losses.alignment; check texts against audio"
            yield Diagnosis("alignment_not_monotonic", sentence, evidence, causes, advice)


class Variances(Watcher):
    """Pitch, energy and durations that no recording has."""

    def __init__(self) -> None:
        self.off = {name: InARow(2) for name in ("pitch", "energy", "durations", "frames", "hertz")}

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        for name in ("pitch", "energy"):
            target, length = seen.batch.get(f"{name}_target"), seen.batch.get("variance_length")
            if isinstance(target, Tensor) and isinstance(length, Tensor):
                valid = target.float()[length_mask(length.to(target.device), target.shape[1])]
                mean, deviation = torch.stack([valid.mean(), valid.std()]).tolist()
                if self.off[name](not (abs(mean) < 3 and 0.05 < deviation < 5)):
                    causes = [f"{name} in another unit, Hz where its logarithm is meant", "statistics of other data"]
                    evidence = {"mean": mean, "deviation": deviation}
                    sentence = f"normalized {name} is far from mean 0 and deviation 1"
                    advice = "measure the statistics anew; look at log_pitch and features.args"
                    yield Diagnosis(f"{name}_out_of_range", sentence, evidence, causes, advice)
        yield from self._hertz(seen)
        yield from self._durations(seen)

    def _hertz(self, seen: Seen) -> Iterator[Diagnosis]:
        pitch = seen.batch.get("pitch")
        if not isinstance(pitch, Tensor):
            return
        voiced = pitch[torch.isfinite(pitch) & (pitch > 0)]
        median = float(voiced.median()) if len(voiced) else 150.0
        if self.off["hertz"](not 50.0 <= median <= 600.0):
            causes = ["F0 in logarithms where Hz is meant", "audio of another sample rate", "a tracker's wrong limits"]
            sentence = f"the median pitch is {median:.4g} Hz, which is no pitch of speech"
            yield Diagnosis("pitch_out_of_range", sentence, {"median": median}, causes, "look at features.args")

    def _durations(self, seen: Seen) -> Iterator[Diagnosis]:
        durations, frames = seen.batch.get("durations"), seen.batch.get("spectrogram_length")
        if isinstance(durations, Tensor) and isinstance(frames, Tensor):
            differences = (durations.sum(1).cpu() - frames.cpu()).tolist()
            if self.off["frames"](any(differences)):
                causes = ["alignments of another hop length", "one frame too many or too few at an end"]
                sentence = "durations do not sum to the frames of their spectrograms"
                evidence = {"differences": differences, "utterances": list(seen.batch.get("utterance_id", []))}
                yield Diagnosis("durations_wrong", sentence, evidence, causes, "make the alignments anew")
        predicted = seen.batch.get("log_durations_predicted")
        if isinstance(predicted, Tensor) and predicted.numel():
            longest = float(predicted.max())
            if self.off["durations"](longest > math.log(1000.0)):
                causes = ["durations in samples or milliseconds", "no logarithm in the target", "a rate too high"]
                sentence = f"a token shall last {math.exp(min(longest, 50.0)):.3g} frames"
                yield Diagnosis("durations_out_of_range", sentence, {"log": longest}, causes, "look at the durations")


class Adversaries(Watcher):
    """A discriminator that separates all generated audio from recordings, so that the generator learns nothing from it.

    Args:
        group: of the discriminator's optimizer.
        generator: of the generator's.
        loss: name of the adversarial loss in both.
    """

    def __init__(self, group: str = "discriminator", generator: str = "generator", loss: str = "adversarial") -> None:
        self.keys = (f"{group}/{loss}", f"{generator}/{loss}")
        self.wins = InARow(10)
        self.largest = 0.0

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        own, other = (seen.values.get(key, math.nan) for key in self.keys)
        self.largest = max(self.largest, own if math.isfinite(own) else 0.0)
        if self.wins(own < 0.02 * self.largest and other > 10 * own):
            causes = ["the discriminator learns too fast", "generated audio has a fault that gives it away: level, DC"]
            sentence = "the discriminator wins: its loss is next to 0"
            evidence = dict(zip(self.keys, (own, other), strict=True))
            advice = "lower the discriminator's rate; look at the audio"
            yield Diagnosis("discriminator_wins", sentence, evidence, causes, advice)
