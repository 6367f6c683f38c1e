"""What every loss of synthesis keeps to: an example of what each kind is given."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hw_base.checks import Candidate, Outcome, declare
from hw_base.checks.losses import LOSS, LossInputs
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.losses import acoustic, adversarial, alignment, vits2

_FRAMES, _TOKENS = torch.tensor([20, 13, 9]), torch.tensor([6, 4, 1])
_T, _L, _F = 22, 7, 8


def check_loss(candidate: Candidate) -> list[Outcome]:
    """All properties of a loss of synthesis."""
    return LOSS.check(lambda: _inputs(candidate))


def _batch() -> dict[str, Any]:
    """Everything that a model of synthesis and its batch hold."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    frames, tokens = torch.arange(_T) < _FRAMES[:, None], torch.arange(_L) < _TOKENS[:, None]
    log_probs = normal(3, _T, _L).masked_fill(~tokens[:, None], -1e4).log_softmax(2)
    first = (torch.arange(_T)[None, :, None] * _TOKENS[:, None, None]) // _FRAMES[:, None, None]
    hard = (first == torch.arange(_L)) & tokens[:, None] & frames[..., None]
    return {
        **{key: normal(3, _F, _T) for key in ("spectrogram", "spectrogram_predicted", "spectrogram_refined")},
        **{key: normal(3, _L) for key in ("pitch_predicted", "pitch_target", "energy_predicted", "energy_target")},
        **{key: normal(3, 4, _T) for key in ("prior_latent", "posterior_log_scale", "prior_mean", "prior_log_scale")},
        **{key: normal(3, _L) for key in ("log_durations_predicted", "durations_predicted", "log_durations_target")},
        "durations": torch.randint(1, 9, (3, _L), generator=generator),
        "spectrogram_length": _FRAMES,
        "tokens_length": _TOKENS,
        "variance_length": _TOKENS,
        "frames_mask": frames[:, None],
        "tokens_mask": tokens[:, None],
        "alignment_log_probs": log_probs,
        "alignment_hard": hard.float(),
    }


def _example(
    loss: nn.Module, batch: dict[str, Any], key: str, padding: Tensor, target: Any, least: float = 0.0
) -> LossInputs:
    known = inspect.signature(loss.forward).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in known.values())
    given = batch if open_ended else {name: value for name, value in batch.items() if name in known}
    best = None if target is None else ({key: target}, least)
    return LossInputs(loss, given, [key], {key: padding}, best)


def _inputs(candidate: Candidate) -> LossInputs:
    loss: Any = candidate.build()
    batch = _batch()
    no_frame, no_token = ~batch["frames_mask"], ~batch["tokens_mask"].squeeze(1)
    if isinstance(loss, acoustic.SpectrogramLoss):
        return _example(loss, batch, f"spectrogram_{loss.output}", no_frame, batch["spectrogram"])
    if isinstance(loss, acoustic.DurationLoss):
        key = "log_durations_predicted" if loss.domain == "log" else "durations_predicted"
        wanted = batch["durations"].float()
        return _example(loss, batch, key, no_token, wanted.log1p() if loss.domain == "log" else wanted)
    if isinstance(loss, acoustic.PitchLoss):
        return _example(loss, batch, "pitch_predicted", no_token, batch["pitch_target"])
    if isinstance(loss, acoustic.EnergyLoss):
        return _example(loss, batch, "energy_predicted", no_token, batch["energy_target"])
    if isinstance(loss, alignment.ForwardSumLoss):
        return _example(loss, batch, "alignment_log_probs", no_frame.transpose(1, 2), None)
    if isinstance(loss, alignment.BinarizationLoss):
        sure = torch.where(batch["alignment_hard"] > 0, 0.0, -50.0)
        return _example(loss, batch, "alignment_log_probs", no_frame.transpose(1, 2), sure)
    if isinstance(loss, vits2.KLLoss):
        return _example(loss, batch, "prior_latent", no_frame, None)
    if isinstance(loss, vits2.LogDurationLoss):
        return _example(loss, batch, "log_durations_predicted", no_token, batch["log_durations_target"])
    if isinstance(loss, vits2.DurationAdversarialLoss):
        scores = {"fake": torch.rand(3, _L), "tokens_mask": batch["tokens_mask"]}
        return _example(loss, scores, "fake", no_token, torch.ones(3, _L))
    return next(make for kind, make in _OTHERS.items() if isinstance(loss, kind))(loss)


def _waveforms(loss: Any) -> LossInputs:
    real, fake = 0.1 * torch.randn(2, 2, 4000)
    loss.prepare(TTSFeatures(sample_rate=16000, n_fft=512, win_length=512, hop_length=128, n_mels=40))
    batch = {"real": real, "fake": fake, "length": torch.tensor([4000, 2000])}
    padding = {"fake": (torch.arange(4000) >= batch["length"][:, None])}
    return LossInputs(loss, batch, [], padding, ({"fake": real}, 0.0))


def _subbands(loss: Any) -> LossInputs:
    real, fake = 0.1 * torch.randn(2, 2, 4, 2048)
    return LossInputs(loss, {"real": real, "fake": fake}, [], {}, ({"fake": real}, 0.0))


def _scores(loss: Any) -> LossInputs:
    fake = [torch.randn(2, n) for n in (5, 9)]
    return LossInputs(loss, {"fake": fake}, ["fake"], {}, ({"fake": [torch.ones(2, 5), torch.ones(2, 9)]}, 0.0))


def _maps(loss: Any) -> LossInputs:
    real, fake = ([[torch.randn(2, 3, 5), torch.randn(2, 4)]] for _ in range(2))
    return LossInputs(loss, {"real": real, "fake": fake}, [], {}, ({"fake": real}, 0.0))


_OTHERS: dict[type, Callable[[Any], LossInputs]] = {
    adversarial.AdversarialLoss: _scores,
    adversarial.FeatureMatchingLoss: _maps,
    adversarial.WaveformMelLoss: _waveforms,
    vits2.SubbandSTFTLoss: _subbands,
}
_KINDS = (
    acoustic.SpectrogramLoss,
    acoustic.DurationLoss,
    acoustic.PitchLoss,
    acoustic.EnergyLoss,
    alignment.ForwardSumLoss,
    alignment.BinarizationLoss,
    vits2.KLLoss,
    vits2.LogDurationLoss,
    vits2.DurationAdversarialLoss,
)
for _kind in (*_KINDS, *_OTHERS):
    declare("losses", check_loss, _kind)
