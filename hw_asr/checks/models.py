"""What every acoustic model trained with CTC keeps to."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from hw_asr.losses.ctc import CTCLoss
from hw_asr.losses.transducer import TransducerLoss
from hw_asr.models.base import CTCModel
from hw_base import seeding
from hw_base.checks import Candidate, Contract, Outcome, declare, expect, expect_close
from hw_base.checks.contract import NotClaimedError
from hw_base.checks.parameters import check_groups, without_gradient
from hw_base.nn.dropout import without_dropout
from hw_base.nn.losses import SumAndCount

MODEL: Contract[Candidate] = Contract("CTC model")

N_MELS, N_TOKENS = 40, 11
# A batch is learned within so many updates.
_STEPS = 200
_LEARNED = 0.2


def check_model(candidate: Candidate) -> list[Outcome]:
    """All properties of a model from spectrograms to posteriors."""
    return MODEL.check(candidate)


def _model(candidate: Candidate) -> CTCModel:
    model: CTCModel = candidate.build(n_mels=N_MELS, n_tokens=N_TOKENS)
    return model


def _batch(lengths: list[int], padding: float = 0.0, extra: int = 0, seed: int = 0) -> dict[str, Any]:
    """A batch whose transcripts fit; ``extra`` more frames of padding than needed."""
    generator = torch.Generator().manual_seed(seed)
    spectrogram = torch.full((len(lengths), N_MELS, max(lengths) + extra), padding)
    for row, n in zip(spectrogram, lengths, strict=True):
        row[:, :n] = torch.randn(N_MELS, n, generator=generator)
    tokens_length = torch.tensor([max(1, n // 20) for n in lengths])
    tokens = torch.randint(1, N_TOKENS, (len(lengths), int(tokens_length.max())), generator=generator)
    return {
        "spectrogram": spectrogram,
        "spectrogram_length": torch.tensor(lengths),
        "tokens": tokens,
        "tokens_length": tokens_length,
        "utterance_id": [f"u{i}" for i in range(len(lengths))],
        "text": ["x"] * len(lengths),
    }


def _moved(model: CTCModel) -> CTCModel:
    """In evaluation, with running statistics that training has moved."""
    model.train()
    with torch.no_grad():
        for seed in range(3):
            model(**_batch([90, 70, 50, 60], seed=seed))
    return model.eval()


def _deterministic(model: CTCModel) -> CTCModel:
    """The model in evaluation; where that is random, comparisons say nothing, and a property of its own says so."""
    before = torch.get_rng_state()
    with torch.no_grad():
        model(**_batch([40]))
    if not torch.equal(before, torch.get_rng_state()):
        raise NotClaimedError("evaluation is random, see there")
    return model


@MODEL.property("forward returns a tensor or a tuple, names its outputs otherwise, or swaps batch and time")
def outputs_have_their_names_and_shapes(candidate: Candidate) -> None:
    out = _model(candidate).eval()(**_batch([80, 40, 61]))
    expect(isinstance(out, dict), "a dict of named tensors", type(out).__name__)
    missing = {"log_probs", "log_probs_length"} - out.keys()
    expect(not missing, "log_probs and log_probs_length", sorted(out))
    log_probs, length = out["log_probs"], out["log_probs_length"]
    shape = (3, int(length.max()), N_TOKENS)
    expect(tuple(log_probs.shape) == shape, f"log_probs (B, T, V) = {shape}", tuple(log_probs.shape))
    expect(length.dtype == torch.int64, "log_probs_length in int64", length.dtype)


@MODEL.property("no log_softmax, softmax without the logarithm, both twice, or over the wrong axis")
def posteriors_are_normalized_over_the_vocabulary(candidate: Candidate) -> None:
    log_probs = _model(candidate).eval()(**_batch([80, 40]))["log_probs"].detach()
    total = log_probs.double().logsumexp(-1)
    expect_close(total, torch.zeros_like(total), "log of the sum over the vocabulary 0", 1e-3)
    expect((log_probs <= 1e-6).all(), "logarithms of probabilities", f"up to {float(log_probs.max()):.3g}")


@MODEL.property("the formula omits a stride or rounds down where the convolution rounds up (off by one)")
def output_lengths_equal_the_real_ones(candidate: Candidate) -> None:
    model = _model(candidate).eval()
    for n_frames in [*range(1, 34), 49, 50, 51, 99, 100, 101, 102]:
        out = model(**_batch([n_frames]))
        claimed = model.output_lengths(torch.tensor([n_frames]))
        real, length = out["log_probs"].shape[1], int(out["log_probs_length"])
        found = f"output_lengths {int(claimed)}, log_probs_length {length}"
        expect(int(claimed) == length == real, f"{real} frames for {n_frames}", found)
    expect(int(model.output_lengths(torch.tensor([0]))) == 0, "0 frames for 0", "more")


@MODEL.property("padding reaches valid frames: attention or recurrence without a mask, a mask on the wrong axis")
def an_utterance_alone_equals_itself_in_a_padded_batch(candidate: Candidate) -> None:
    model = _deterministic(_moved(_model(candidate)))
    lengths = [61, 8, 17, 60, 33]
    batch = _batch(lengths, padding=7.0, extra=13)
    with torch.no_grad():
        together = model(**batch)
        for i, n in enumerate(lengths):
            one = {key: value[i : i + 1] for key, value in batch.items()} | {
                "spectrogram": batch["spectrogram"][i : i + 1, :, :n]
            }
            alone = model(**one)
            n_frames = int(alone["log_probs_length"])
            expect(
                int(together["log_probs_length"][i]) == n_frames,
                f"{n_frames} frames as alone",
                together["log_probs_length"][i],
            )
            expect_close(
                together["log_probs"][i, :n_frames], alone["log_probs"][0, :n_frames], f"utterance of {n} frames", 1e-4
            )


@MODEL.property("BatchNorm or another statistic of training is taken over the padding too")
def training_does_not_depend_on_the_padding(candidate: Candidate) -> None:
    _deterministic(_model(candidate).eval())
    lengths, outputs, buffers = [80, 30, 55], [], []
    for padding, extra in ((0.0, 0), (7.0, 24)):
        model = without_dropout(_model(candidate)).train()
        with torch.no_grad(), seeding.isolated(1):  # the same layers skipped, where depth is random
            out = model(**_batch(lengths, padding, extra))
        outputs.append([row[:n] for row, n in zip(out["log_probs"], out["log_probs_length"].tolist(), strict=True)])
        buffers.append({name: b for name, b in model.named_buffers() if b.is_floating_point()})
    for n, a, b in zip(lengths, *outputs, strict=True):
        expect_close(b, a, f"utterance of {n} frames, in training", 1e-4)
    for name, before in buffers[0].items():
        if before.shape == buffers[1][name].shape:
            expect_close(buffers[1][name], before, f"statistic {name}", 1e-4)


@MODEL.property("dropout or noise is active in evaluation (F.dropout without training=self.training)")
def evaluation_draws_nothing_at_random(candidate: Candidate) -> None:
    model, batch = _moved(_model(candidate)), _batch([80, 40])
    with torch.no_grad():
        before = torch.get_rng_state()
        first = model(**batch)["log_probs"]
        expect(torch.equal(before, torch.get_rng_state()), "the random state left alone in evaluation", "numbers drawn")
        expect(torch.equal(first, model(**batch)["log_probs"]), "equal outputs at the second call", "other ones")


@MODEL.property("a list or dict of layers that should be a ModuleList, or an output cut off by detach()")
def a_gradient_reaches_every_parameter(candidate: Candidate) -> None:
    model, batch = _model(candidate).train(), _batch([80, 60, 50, 40])
    loss = _loss(model, batch)
    expect(torch.isfinite(loss), "a finite loss", loss.item())
    loss.backward()  # type: ignore[no-untyped-call]
    none = without_gradient(model)
    expect(not none, "a gradient for every parameter", f"none for {', '.join(none[:5])}")
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()]
    expect(not bad, "finite gradients", f"NaN or infinity in {', '.join(bad[:5])}")


@MODEL.property("tensors kept as plain attributes, outside parameters and buffers")
def the_state_makes_another_model_equal(candidate: Candidate) -> None:
    first = _deterministic(_moved(_model(candidate)))
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    second: CTCModel = candidate.build(init_seed=1, n_mels=N_MELS, n_tokens=N_TOKENS).eval()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    batch = _batch([80, 40])
    with torch.no_grad():
        expect_close(second(**batch)["log_probs"], first(**batch)["log_probs"], "outputs of the loaded model", 0.0)


@MODEL.property("parameters made outside the groups, which no optimizer would train, or two groups that share some")
def every_parameter_is_in_one_group(candidate: Candidate) -> None:
    check_groups(_model(candidate))


@MODEL.property("a constant or softmax overflows in half precision, or posteriors are not computed in float32")
def half_precision_is_finite(candidate: Candidate) -> None:
    model, batch = _moved(_model(candidate)), _batch([80, 40])
    with torch.no_grad():
        full = model(**batch)["log_probs"].exp()
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype):
                half = model(**batch)["log_probs"]
            expect(half.dtype == torch.float32, f"float32 posteriors under {dtype}", half.dtype)
            expect(torch.isfinite(half).all(), f"finite posteriors under {dtype}", "NaN or infinity")
            expect_close(half.exp(), full, f"probabilities under {dtype}", 0.1)


@MODEL.property("frames are reversed or shuffled: a flip that is not undone, a reshape where a transpose is meant")
def the_order_of_time_is_kept(candidate: Candidate) -> None:
    model = _moved(_model(candidate))
    n_frames = 120
    batch = _batch([n_frames])
    places = []
    with torch.no_grad():
        plain = model(**batch)["log_probs"][0]
        for at in (12, 60, 108):
            changed = batch | {"spectrogram": batch["spectrogram"].clone()}
            changed["spectrogram"][0, :, at - 4 : at + 4] += 5.0
            change = (model(**changed)["log_probs"][0] - plain).abs().sum(1)
            places.append(float((change * torch.arange(len(change))).sum() / change.sum()) / len(change))
    rises = places[0] < places[1] < places[2]
    shown = ", ".join(f"{place:.2f}" for place in places)
    expect(rises, "changes at 0.1, 0.5, 0.9 of the input to move outputs in this order", f"around {shown}")


@MODEL.property("the blank is not token 0 in the model's head, lengths are wrong, or the output ignores the input")
def one_batch_is_learned(candidate: Candidate) -> None:
    model, batch = without_dropout(_model(candidate)).train(), _batch([80, 60, 50, 70], seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    first = last = float("inf")
    for step in range(_STEPS):
        loss = _loss(model, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        last = loss.item()
        first = last if step == 0 else first
        if last < 0.5 * _LEARNED * first:
            break
    expect(
        last <= _LEARNED * first,
        f"a loss of at most {_LEARNED * first:.3f} after {_STEPS} updates",
        f"{first:.3f} -> {last:.3f}",
    )


def _loss(model: CTCModel, batch: dict[str, Any]) -> Tensor:
    """The loss that the model is trained with."""
    outputs = {**batch, **model(**batch)}
    losses: list[nn.Module] = [CTCLoss()]
    if "predictor_states" in outputs:
        losses.append(TransducerLoss())
    means: list[SumAndCount] = [loss(**outputs) for loss in losses]
    return torch.stack([mean.total / mean.count.clamp(min=1) for mean in means]).sum()


declare("models", check_model, CTCModel)
