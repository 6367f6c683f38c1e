"""What every metric of synthesis keeps to."""

import torch

from hw_base.checks import Candidate, Outcome, declare, samples
from hw_base.checks.metrics import METRIC, MetricInputs
from hw_tts.metrics.base import Pair, SynthesisMetric

_RATE = 16000


def check_metric(candidate: Candidate) -> list[Outcome]:
    """All properties of a metric over pairs of waveforms."""
    target = candidate.target
    matched = isinstance(target, type) and issubclass(target, SynthesisMetric) and target.matched_only

    def pair(seed: int, other: int) -> Pair:
        n = round(0.9 * _RATE)
        reference, synthesized = samples.waveform(n, _RATE, seed), samples.waveform(n, _RATE, other)
        if seed != other:
            synthesized = synthesized + 0.02 * torch.randn(n, generator=torch.Generator().manual_seed(other))
        durations = torch.tensor([3, 5, 2])
        changed = durations if seed == other else torch.tensor([4, 3, 6])
        n_kept = n if matched or seed == other else round(0.8 * n)
        return Pair(reference, synthesized[:n_kept], _RATE, "a b", "x", f"u{seed}", durations, changed, matched)

    different = [(pair(seed, seed + 2),) for seed in range(3)]
    perfect = [(pair(seed, seed),) for seed in range(2)]
    return METRIC.check(MetricInputs(candidate.build, different, perfect))


declare("metrics", check_metric, SynthesisMetric)
