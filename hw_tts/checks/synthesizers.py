"""What every synthesizer's network keeps to."""

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn

from hw_base.checks import Candidate, Contract, Outcome, declare, expect, expect_close
from hw_base.checks.contract import NotClaimedError
from hw_base.checks.parameters import without_gradient
from hw_base.errors import ConfigError
from hw_base.nn.dropout import without_dropout
from hw_base.nn.layers import length_mask
from hw_tts.checks import models
from hw_tts.checks.models import build_model
from hw_tts.models.base import SynthesisModel

SYNTHESIZER: Contract[Candidate] = Contract("synthesizer")

N_MELS, N_TOKENS = 40, 11
_STATISTICS = {"pitch_mean": 180.0, "pitch_std": 50.0, "pitch_min": 70.0, "pitch_max": 400.0}
_STATISTICS |= {"pitch_log_mean": 5.1, "pitch_log_std": 0.3}
_STATISTICS |= {"energy_mean": 12.0, "energy_std": 6.0, "energy_min": 0.1, "energy_max": 60.0}
# Frames of the tokens of three utterances.
_DURATIONS = ([4, 3, 2, 5, 4, 3, 6, 2, 3, 5], [5, 3, 4, 6], [2, 4, 4, 7, 3, 5, 2])
# A batch is learned within so many updates: to this fraction of the loss that its means have.
_STEPS, _LEARNED = 150, 0.5


def check_synthesizer(candidate: Candidate) -> list[Outcome]:
    """All properties of a model from symbols to speech."""
    return models.check_model(candidate) + SYNTHESIZER.check(candidate)


def _model(candidate: Candidate, init_seed: int = 0) -> Any:
    """A model in evaluation whose weights are no longer those of the beginning, where much is zero."""
    model: Any = build_model(candidate, init_seed)
    model.set_statistics(_STATISTICS)
    generator = torch.Generator().manual_seed(init_seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def _batch(model: SynthesisModel, extra: int = 0) -> dict[str, Any]:
    """Three utterances, whose padding is garbage and ``extra`` tokens and frames longer than needed."""
    generator = torch.Generator().manual_seed(0)
    n_tokens, n_frames = [len(d) for d in _DURATIONS], [sum(d) for d in _DURATIONS]
    hop = model.hop_length
    batch: dict[str, Any] = {
        "tokens": torch.full((3, max(n_tokens) + extra), N_TOKENS - 1),
        "durations": torch.zeros(3, max(n_tokens) + extra, dtype=torch.int64),
        "spectrogram": torch.full((3, N_MELS, max(n_frames) + extra), 9.0),
        "pitch": torch.full((3, max(n_frames) + extra), 500.0),
        "energy": torch.full((3, max(n_frames) + extra), 50.0),
        "waveform": 0.1 * torch.randn(3, hop * (max(n_frames) + extra), generator=generator),
    }
    for i, durations in enumerate(_DURATIONS):
        time = torch.arange(n_frames[i])
        batch["tokens"][i, : len(durations)] = torch.randint(1, N_TOKENS, (len(durations),), generator=generator)
        batch["durations"][i, : len(durations)] = torch.tensor(durations)
        batch["spectrogram"][i, :, : n_frames[i]] = torch.sin(0.3 * time + torch.arange(N_MELS)[:, None] + i) * 2 - 4
        batch["pitch"][i, : n_frames[i]] = 150 + 40 * torch.sin(0.5 * time + i)
        batch["energy"][i, : n_frames[i]] = 12 + 8 * torch.cos(0.4 * time + i)
    lengths = {"tokens_length": torch.tensor(n_tokens), "spectrogram_length": torch.tensor(n_frames)}
    batch |= lengths | {"waveform_length": hop * lengths["spectrogram_length"], "speaker_id": torch.tensor([0, 1, 0])}
    return batch | {"text": ["x"] * 3, "utterance_id": ["u0", "u1", "u2"]}


def _alone(batch: dict[str, Any], i: int) -> dict[str, Any]:
    """One utterance without its padding."""
    n_tokens, n_frames = int(batch["tokens_length"][i]), int(batch["spectrogram_length"][i])
    ends = {"tokens": n_tokens, "durations": n_tokens, "waveform": int(batch["waveform_length"][i])}
    ends |= dict.fromkeys(("spectrogram", "pitch", "energy"), n_frames)
    alone = {key: value[i : i + 1] for key, value in batch.items()}
    return {key: value[..., : ends[key]] if key in ends else value for key, value in alone.items()}


def _said(model: SynthesisModel, batch: dict[str, Any], **controls: float) -> dict[str, Tensor]:
    """What `synthesize` gives, without noise where the model has some."""
    known = inspect.signature(model.synthesize).parameters
    controls |= {name: 0.0 for name in ("noise", "duration_noise") if name in known}
    return model.synthesize(
        tokens=batch["tokens"], tokens_length=batch["tokens_length"], speaker_id=batch["speaker_id"], **controls
    )


def _speech(out: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Spectrogram (B, F, T) or waveform (B, S), and its lengths."""
    key = "waveform" if "waveform" in out else "spectrogram"
    missing = {key, f"{key}_length"} - out.keys()
    expect(not missing, "spectrogram and spectrogram_length, or waveform and waveform_length", sorted(out))
    return out[key], out[f"{key}_length"]


@SYNTHESIZER.property("the output is named otherwise, has frames and bins swapped, or keeps the padding's garbage")
def speech_has_its_name_and_shape_and_ends_with_zeros(candidate: Candidate) -> None:
    model = _model(candidate)
    out = _said(model, _batch(model, extra=3))
    speech, length = _speech(out)
    inner = (3, N_MELS) if speech.dim() == 3 else (3,)
    expect(tuple(speech.shape[:-1]) == inner, f"shape {(*inner, 'T or S')}", tuple(speech.shape))
    expect(length.dtype == torch.int64, "lengths in int64", length.dtype)
    expect(speech.shape[-1] == int(length.max()), f"{int(length.max())} frames or samples", speech.shape[-1])
    expect(torch.isfinite(speech).all(), "finite speech", "NaN or infinity")
    inside = length_mask(length, speech.shape[-1])
    outside = ~(inside[:, None] if speech.dim() == 3 else inside)
    expect(not (speech * outside).any(), "zeros behind the end of each utterance", "speech")


@SYNTHESIZER.property("lengths are those of the batch, or durations are rounded a second time for the regulator")
def speech_lasts_as_long_as_its_durations(candidate: Candidate) -> None:
    model = _model(candidate)
    batch = _batch(model, extra=3)
    for speed in (1.0, 0.2):
        out = _said(model, batch, speed=speed)
        if "durations" not in out:
            raise NotClaimedError("its output holds no durations")
        _, length = _speech(out)
        samples = model.hop_length if "waveform" in out else 1
        expected = (out["durations"].sum(1).clamp(min=1) * samples).tolist()
        expect(length.tolist() == expected, f"lengths {expected}, the sums of durations", length.tolist())
        padding = ~length_mask(batch["tokens_length"], batch["tokens"].shape[1])
        expect(not out["durations"][padding].any(), "no frames for padding", out["durations"].tolist())


@SYNTHESIZER.property("attention or convolutions see the padding: no mask, or a mask on the wrong axis")
def an_utterance_alone_equals_itself_in_a_padded_batch(candidate: Candidate) -> None:
    model = _model(candidate)
    batch = _batch(model, extra=7)
    together, lengths = _speech(_said(model, batch, speed=0.2))
    for i in range(3):
        alone, length = _speech(_said(model, _alone(batch, i), speed=0.2))
        expect(int(length) == int(lengths[i]), f"{int(length)} frames or samples as alone", int(lengths[i]))
        # A decoder of waveforms hears zeros behind the end, or what it makes of them.
        n = int(length) if alone.dim() == 3 else int(length) // 2
        expect_close(together[i, ..., :n], alone[0, ..., :n], f"speech of utterance {i}", 1e-3)
    if model.trains_on_waveform:
        return
    with torch.no_grad():
        predicted = model(**batch)["spectrogram_predicted"]
        for i, durations in enumerate(_DURATIONS):
            own = model(**_alone(batch, i))["spectrogram_predicted"][0]
            expect_close(predicted[i, :, : sum(durations)], own, f"training pass of utterance {i}", 1e-3)


@SYNTHESIZER.property("dropout or noise is active in evaluation (F.dropout without training=self.training)")
def without_noise_the_same_is_said_again(candidate: Candidate) -> None:
    model = _model(candidate)
    batch = _batch(model)
    before = torch.get_rng_state()
    first, _ = _speech(_said(model, batch))
    expect(torch.equal(before, torch.get_rng_state()), "the random state left alone in evaluation", "numbers drawn")
    expect(torch.equal(first, _speech(_said(model, batch))[0]), "equal speech at the second call", "other speech")


@SYNTHESIZER.property("a list or dict of layers that should be a ModuleList, or an output cut off by detach()")
def a_gradient_reaches_every_parameter(candidate: Candidate) -> None:
    model = _model(candidate).train()
    out = model(**_batch(model))
    parts = [v.float().square().mean() for v in out.values() if isinstance(v, Tensor) and v.requires_grad]
    expect(bool(parts), "outputs with a gradient", sorted(out))
    torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
    for name, network in model.parameter_groups().items():
        reached = [p for p in network.parameters() if p.grad is not None]
        if reached:  # discriminators are no part of this pass
            none = without_gradient(network)
            expect(not none, f"a gradient for every parameter of {name!r}", f"none for {', '.join(none[:5])}")
            finite = all(bool(torch.isfinite(p.grad).all()) for p in reached)
            expect(finite, f"finite gradients in {name!r}", "NaN or infinity")


@SYNTHESIZER.property("tensors kept as plain attributes, outside parameters and buffers (statistics of pitch, say)")
def the_state_makes_another_model_equal(candidate: Candidate) -> None:
    first, second = _model(candidate), build_model(candidate, 1).eval()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    batch = _batch(first)
    for key, value in _said(first, batch, speed=0.2).items():
        found = _said(second, batch, speed=0.2)[key]  # type: ignore[arg-type]
        expect_close(found, value, f"{key} of the loaded model", 0.0)


@SYNTHESIZER.property("a logarithm, a spectrum or a sum of durations is computed in half precision")
def half_precision_is_finite(candidate: Candidate) -> None:
    model = _model(candidate)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            speech, _ = _speech(_said(model, _batch(model)))
        expect(torch.isfinite(speech).all(), f"finite speech under {dtype}", "NaN or infinity")


@SYNTHESIZER.property("the table of speakers is not looked at, or only in training")
def another_speaker_sounds_different(candidate: Candidate) -> None:
    if "n_speakers" not in inspect.signature(candidate.target).parameters:
        raise NotClaimedError("it has no argument 'n_speakers'")
    model = _model(candidate)
    batch = _batch(model)
    other = batch | {"speaker_id": 1 - batch["speaker_id"]}
    (first, length), (second, other_length) = (_speech(_said(model, one)) for one in (batch, other))
    same = torch.equal(length, other_length) and torch.equal(first, second)
    expect(not same, "other speech of the other speaker", "the same")


@SYNTHESIZER.property("a control that the model lacks is taken without a word")
def controls_are_followed_or_refused(candidate: Candidate) -> None:
    model = _model(candidate)
    batch = _batch(model)
    plain, _ = _speech(_said(model, batch))
    for control in ("pitch", "energy"):
        try:
            changed, _ = _speech(_said(model, batch, **{control: 1.5}))
        except ConfigError:
            continue
        same = plain.shape == changed.shape and torch.equal(plain, changed)
        expect(not same, f"other speech with {control}=1.5, or a ConfigError", "the same")


@SYNTHESIZER.property("durations are predicted in another domain than they are spoken in, or speed multiplies them")
def one_batch_is_learned_and_spoken_at_its_speed(candidate: Candidate) -> None:
    model = _model(candidate)
    if model.trains_on_waveform:
        raise NotClaimedError("it learns against discriminators, for longer than a check may take")
    if "log_durations_predicted" not in model(**_batch(model)):
        raise NotClaimedError("it does not predict the logarithms of durations")
    batch = _batch(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    last, goal = torch.inf, _LEARNED * _of_means(batch)
    for _ in range(_STEPS):
        loss = _loss(without_dropout(model).train(), batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        last = loss.item()
        if last < 0.8 * goal:
            break
    expect(last <= goal, f"a loss of at most {goal:.3f} after {_STEPS} updates", f"{last:.3f}")
    model.eval()
    if "durations" not in _said(model, batch):
        return
    real = float(batch["durations"].sum())
    for speed in (1.0, 0.5):
        spoken = float(_said(model, batch, speed=speed)["durations"].sum())
        near = 0.75 * real < spoken * speed < 1.35 * real
        expect(near, f"about {real / speed:.0f} frames at speed {speed:g}", f"{spoken:.0f}")


def _loss(model: SynthesisModel, batch: dict[str, Any]) -> Tensor:
    out = model(**batch)
    spectrogram, durations = _valid(batch, out["spectrogram_predicted"], out["log_durations_predicted"])
    targets = _valid(batch, batch["spectrogram"], batch["durations"].float().log1p())
    loss: Tensor = (spectrogram - targets[0]).square().mean() + (durations - targets[1]).square().mean()
    return loss


def _of_means(batch: dict[str, Any]) -> float:
    """The loss of a model that knows nothing but the means of the batch."""
    return sum(float(one.var()) for one in _valid(batch, batch["spectrogram"], batch["durations"].float().log1p()))


def _valid(batch: dict[str, Any], frames: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Of (B, F, T) and (B, L) what is no padding, (N,) and (M,)."""
    inside = length_mask(batch["spectrogram_length"], batch["spectrogram"].shape[2])[:, None]
    return frames[inside.expand_as(frames)], tokens[length_mask(batch["tokens_length"], tokens.shape[1])]


declare("models", check_synthesizer, SynthesisModel)
