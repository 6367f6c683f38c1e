"""Examinations of recognition before training: frames and tokens, lengths, padding, the first loss, augmentations."""

import math
import statistics
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hw_asr.augmentations.waveform import NoiseAugmentation
from hw_asr.data.items import ItemMaker
from hw_asr.losses.ctc import CTCLoss
from hw_base.data.split import Split, item_generator
from hw_base.examinations import page
from hw_base.examinations.findings import Finding, Level, listed
from hw_base.nn.layers import length_mask
from hw_base.nn.losses import as_sum_and_count
from hw_base.training.trainer import BaseTrainer


def examine(trainer: BaseTrainer, batch: dict[str, Any], cheap: bool) -> Iterator[Finding]:
    """Findings on a batch; without `cheap` on the whole training split and the augmentations too."""
    yield from _tokens(trainer, batch)
    yield from _model(trainer, batch)
    if not cheap:
        split = trainer.loader.split
        yield from _frames_per_token(trainer, split)
        yield from _augmentations(split)


def _tokens(trainer: BaseTrainer, batch: dict[str, Any]) -> Iterator[Finding]:
    """Whether the tokens of a batch (B, L) are those of its utterances' transcripts."""
    if "tokens" not in batch:
        return
    encoder = trainer.setup.task.text_encoder  # type: ignore[union-attr]
    # Datasets that are joined for training may share ids.
    texts: dict[str, list[str]] = {name: [] for name in batch["utterance_id"]}
    for record in trainer.loader.split.records:
        if record.utterance_id in texts:
            texts[record.utterance_id].append(record.text or "")
    for name, tokens, n in zip(batch["utterance_id"], batch["tokens"], batch["tokens_length"].tolist(), strict=True):
        # Decoded, because an encoder may choose among several ways to write a text.
        found, expected = encoder.decode(tokens[:n].tolist()), [encoder.decode(encoder.encode(t)) for t in texts[name]]
        if expected and found not in expected:
            causes = ["collate or dataset pairs an utterance with another one's tokens", "tokens are cut or turned"]
            evidence = f"{name}: {found!r} in place of {expected[0]!r}"
            advice = "keep audio and tokens of a record together"
            yield Finding("error", "tokens are not those of the transcripts", evidence, causes, advice)
            return
    yield Finding("ok", "tokens are those of the transcripts")


def _model(trainer: BaseTrainer, batch: dict[str, Any]) -> Iterator[Finding]:
    model = trainer.model
    with trainer.without_trace(), torch.no_grad():
        model.eval()
        moved = trainer.to_device(dict(batch))
        before = torch.get_rng_state()
        together = model(**moved)
        drawn = not torch.equal(before, torch.get_rng_state())
        i = int(batch["spectrogram_length"].argmin())
        n = int(batch["spectrogram_length"][i])
        one = {
            "spectrogram": moved["spectrogram"][i : i + 1, :, :n],
            "spectrogram_length": moved["spectrogram_length"][i : i + 1],
            "utterance_id": batch["utterance_id"][i : i + 1],
        }
        alone = model(**{**moved, **one})
    log_probs, length = together["log_probs"], together["log_probs_length"]
    if drawn:
        causes = ["dropout or noise is active in evaluation"]
        yield Finding("error", "evaluation is random", "numbers are drawn", causes, "use self.training, or nn.Dropout")
    frames, real = int(length[i]), alone["log_probs"].shape[1]
    if frames != real or int(length.max()) > log_probs.shape[1]:
        causes = ["output_lengths omits a stride or rounds otherwise than the convolution"]
        evidence = f"{frames} claimed, {real} real for {n} frames of {batch['utterance_id'][i]}"
        yield Finding("error", "output lengths are wrong", evidence, causes, "correct output_lengths")
        return
    yield Finding("ok", "output lengths are those of the output", f"{real} for {n} frames")
    worst = float((log_probs[i, :frames].exp() - alone["log_probs"][0].exp()).abs().max()) if frames else 0.0
    if worst > 0.05:
        causes = ["attention, convolution or recurrence without a mask", "a mask on the wrong axis"]
        evidence = f"probabilities of {batch['utterance_id'][i]} differ by {worst:.3f} alone and in a batch"
        yield Finding("error", "padding leaks into valid frames", evidence, causes, "mask by spectrogram_length")
    else:
        yield Finding("ok", "padding does not leak", f"probabilities differ by at most {worst:.1g}")
    if not drawn:
        yield from _direction(trainer, {**moved, **one}, alone["log_probs"][0])
    yield from _first_loss(trainer, batch, log_probs.float(), length)


def _direction(trainer: BaseTrainer, batch: dict[str, Any], log_probs: Tensor) -> Iterator[Finding]:
    """Whether the last quarter of an utterance acts on the end of the output.

    Args:
        trainer: of the model.
        batch: with one utterance, its spectrogram (1, F, T).
        log_probs (Tensor): what the model makes of it, (T', V).
    """
    x = batch["spectrogram"]
    n = math.ceil(x.shape[-1] / 4)
    turned = torch.cat([x[..., :-n], 2 * x.mean() - x[..., -n:]], dim=-1)
    with trainer.without_trace(), torch.no_grad():
        trainer.model.eval()
        change = (trainer.model(**{**batch, "spectrogram": turned})["log_probs"][0] - log_probs).abs().sum(-1)
    share = float(change[: len(change) // 2].sum() / change.sum().clamp(min=1e-9))
    (name,) = batch["utterance_id"]
    evidence = f"{share:.0%} of what the last quarter of {name} changes is in the first half"
    # Shipped models have at most a fifth, by attention; one direction of two that is left turned makes a half of it.
    if share > 0.4:
        causes = ["a flip of time that is not undone", "a recurrence's backward direction that is not turned back"]
        level: Level = "error" if share > 0.6 else "warning"
        yield Finding(level, "the output does not follow the input in time", evidence, causes, "flip it back")
    else:
        yield Finding("ok", "the output follows the input in time", evidence)


def _first_loss(trainer: BaseTrainer, batch: dict[str, Any], log_probs: Tensor, length: Tensor) -> Iterator[Finding]:
    if "tokens" not in batch:
        return
    total = log_probs.exp().sum(-1)
    if float((total - 1).abs().max()) > 0.02:
        causes = ["softmax twice, over the wrong axis, or missing"]
        evidence = f"they sum to {float(total.min()):.3g} to {float(total.max()):.3g}"
        yield Finding("error", "posteriors do not sum to 1", evidence, causes, "end the model with log_softmax(-1)")
        return
    if bool(((batch["tokens"] == 0) & _inside(batch)).any()):
        causes = ["the text encoder's ids begin at 0"]
        yield Finding("error", "transcripts contain the blank", "token 0 in targets", causes, "begin ids at 1")
        return
    with trainer.without_trace(), torch.no_grad():
        moved = trainer.to_device(dict(batch))
        values = [as_sum_and_count(v) for _, losses in trainer.named_losses(moved) for v in losses.values()]
    least = min((float(value.total) for value in values), default=0.0)
    if least < 0:
        causes = ["its sign is turned", "it is no negative logarithm of a probability"]
        evidence = f"{least:.3g}, where the logarithm of a probability is at most 0"
        yield Finding("error", "a loss is negative", evidence, causes, "return the negative log-likelihood")
        return
    uniform = torch.full_like(log_probs, 1.0 / log_probs.shape[-1]).log()
    loss = CTCLoss()
    found, expected = (_mean(loss, p, length, batch) for p in (log_probs, uniform))
    evidence = f"{found:.3g}, where a model without knowledge of {log_probs.shape[-1]} tokens has {expected:.3g}"
    if found > 3 * abs(expected) + 3:
        causes = ["the head's weights are too large", "features are not normalized", "the blank is another token"]
        yield Finding("warning", "the first loss is high", evidence, causes, "look at features and the model's head")
    else:
        yield Finding("ok", "the first loss is that of a model without knowledge, or better", evidence)


def _mean(loss: CTCLoss, log_probs: Tensor, length: Tensor, batch: dict[str, Any]) -> float:
    mean = loss(log_probs, length, batch["tokens"], batch["tokens_length"], batch["utterance_id"], batch["text"])
    return float(mean.total / mean.count.clamp(min=1))


def _inside(batch: dict[str, Any]) -> Tensor:
    tokens: Tensor = batch["tokens"]
    return length_mask(batch["tokens_length"], tokens.shape[1])


def _frames_per_token(trainer: BaseTrainer, split: Split) -> Iterator[Finding]:
    task: Any = trainer.setup.task
    samples = torch.tensor([round(duration * split.sample_rate) for duration in split.durations])
    frames = trainer.model.output_lengths(task.features.frames(samples)).tolist()  # type: ignore[operator]
    tokens = [len(task.text_encoder.encode(record.text or "")) for record in split.records]
    ratios = [f / max(t, 1) for f, t in zip(frames, tokens, strict=True)]
    tight = [r.utterance_id for r, ratio in zip(split.records, ratios, strict=True) if ratio < 1.2]
    median = statistics.median(ratios)
    picture = page.histogram(ratios, "frames for each token")
    lost = len(split.skipped)
    evidence = f"median {median:.1f} frames for each token; {lost} utterances cannot be learned and are left out"
    if lost > 0.02 * (len(split) + lost) or len(tight) > 0.05 * len(split):
        causes = ["the model's stride is too large", "transcripts are longer than what is said"]
        evidence += f"; scarce in {len(tight)}: {listed(tight)}"
        advice = "a smaller stride, or a vocabulary of pieces"
        yield Finding("error", "transcripts hardly fit their frames", evidence, causes, advice, picture)
    else:
        yield Finding("ok", "transcripts fit their frames", evidence, picture=picture)


def _augmentations(split: Split) -> Iterator[Finding]:
    maker = split.make_item
    if not isinstance(maker, ItemMaker) or not (maker.on_waveform or maker.on_spectrogram):
        return
    kept = []
    for i in range(min(8, len(split))):
        _, changed = maker.augmented(split.waveform(i), item_generator(split.seed, 0, i))
        frames = (changed - changed.mean(0, keepdim=True)).abs().amax(0) > 1e-4
        bins = (changed - changed.mean(1, keepdim=True)).abs().amax(1) > 1e-4
        kept.append(float(frames.float().mean() * bins.float().mean()))
    evidence = f"{statistics.mean(kept):.0%} of the spectrogram is not masked, over {len(kept)} utterances"
    if statistics.mean(kept) < 0.3:
        causes = ["too many or too wide masks"]
        yield Finding("error", "augmentations hide the speech", evidence, causes, "reduce the masks' number and width")
    else:
        yield Finding("ok", "augmentations leave the speech", evidence)
    yield from _noise(maker, split)


def _noise(maker: ItemMaker, split: Split) -> Iterator[Finding]:
    """How far speech is above the noise that augmentations add to it, at their lowest."""
    noisy = [one for one in maker.on_waveform if isinstance(one, NoiseAugmentation)]
    for augmentation in noisy:
        ratios = []
        for i in range(min(8, len(split))):
            clean = split.waveform(i)
            added = augmentation(clean, item_generator(split.seed, 0, i)) - clean
            if bool(added.any()):  # it acts on some of the utterances only
                ratios.append(10 * math.log10(float(clean.square().mean() / added.square().mean())))
        if not ratios:
            continue
        name = type(augmentation).__name__
        evidence = f"speech is {min(ratios):.0f} to {max(ratios):.0f} dB above the noise, in {len(ratios)} utterances"
        if statistics.median(ratios) < 0.0:
            causes = ["min_snr and max_snr are in another unit or too low"]
            yield Finding("error", f"{name} drowns the speech", evidence, causes, "raise min_snr and max_snr")
        else:
            yield Finding("ok", f"{name} leaves speech above the noise", evidence)
