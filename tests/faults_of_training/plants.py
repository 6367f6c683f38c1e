"""What is planted: changes of code, of data and of a trainer that was built."""

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from hw_asr.data.collate import ASRCollate
from hw_asr.data.items import ItemMaker
from hw_asr.models.deepspeech2 import ConvBlock, DeepSpeech2
from hw_asr.trainer import CTCTrainer
from hw_base.audio import io as audio
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.split import Split
from hw_base.nn.layers import BiRNN, MaskedBatchNorm
from hw_base.synthetic.corpus import SyntheticSpeech
from hw_base.training.trainer import BaseTrainer
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.vocoders.griffin_lim import GriffinLim

Patch = Callable[[], contextlib.AbstractContextManager[Any]]


def around(target: Any, name: str, change: Callable[..., Any]) -> Patch:
    """A patch: `change` is called with the original function and its arguments."""
    original = getattr(target, name)

    @wraps(original)  # its signature is that of the config
    def replaced(*args: Any, **kwargs: Any) -> Any:
        return change(original, *args, **kwargs)

    return partial(patch.object, target, name, replaced)


def outputs(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Patch:
    """Change what the model returns."""
    return around(DeepSpeech2, "forward", lambda forward, *args, **batch: change(forward(*args, **batch)))


def log_mel(change: Callable[[Tensor], Tensor]) -> Patch:
    """Change the logarithms before they are normalized."""
    return around(LogMelSpectrogram, "_log_mel", lambda original, self, energy: change(original(self, energy)))


def tokens(change: Callable[[list[Tensor]], list[Tensor]]) -> Patch:
    """Change the tokens of the items that a batch is made of."""

    def changed(original: Any, self: ASRCollate, items: list[dict[str, Any]]) -> Any:
        others = change([item["tokens"] for item in items])
        return original(self, [{**item, "tokens": other} for item, other in zip(items, others, strict=True)])

    return around(ASRCollate, "__call__", changed)


def with_log_probs(change: Callable[[Tensor], Tensor]) -> Patch:
    return outputs(lambda out: {**out, "log_probs": change(out["log_probs"])})


def blank_elsewhere(original: Any, self: CTCTrainer, batch: dict[str, Any]) -> Any:
    batch.update(self.networks["model"](**batch))
    shifted = {**batch, "log_probs": batch["log_probs"].roll(-1, dims=-1)}
    yield "model", {name: loss(**shifted) for name, loss in self.loss_modules.items()}


def shuffled(original: Any, self: SyntheticSpeech, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    texts = [record.text for record in self.records]
    half = len(texts) // 2
    moved = zip(self.records, texts[half:] + texts[:half], strict=True)
    self.records = [dataclasses.replace(record, text=text) for record, text in moved]


def one_text(original: Any, self: SyntheticSpeech, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    self.records = [dataclasses.replace(record, text=self.records[0].text) for record in self.records]


def first_words(original: Any, self: SyntheticSpeech, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    self.records = [dataclasses.replace(record, text=record.text.split()[0]) for record in self.records]


def half_silent(original: Any, self: Split, i: int) -> Tensor:
    return original(self, i) * (i % 2)


def negative(original: Any, self: CTCTrainer, batch: dict[str, Any]) -> Any:
    for name, losses in original(self, batch):
        yield name, {key: dataclasses.replace(loss, total=-loss.total) for key, loss in losses.items()}


def one_batch_for_ever(trainer: BaseTrainer) -> None:
    step, kept = trainer.train_step, []

    def with_the_first(batch: dict[str, Any]) -> None:
        kept.append(batch)
        step(dict(kept[0]))

    trainer.train_step = with_the_first  # type: ignore[method-assign]


def never_in_training_mode(trainer: BaseTrainer) -> None:
    train = trainer.model.train
    trainer.model.train = lambda mode=True: train(False)  # type: ignore[method-assign]


def large_weights(trainer: BaseTrainer) -> None:
    for parameter in trainer.model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(100)


def discriminator_too_fast(trainer: BaseTrainer) -> None:
    for group in trainer.optimizations["discriminator"].optimizer.param_groups:
        group["lr"] *= 300


def speakers_shuffled(original: Any, self: SyntheticSpeech, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    names = [record.speaker for record in self.records]
    random.Random(0).shuffle(names)
    self.records = [dataclasses.replace(record, speaker=name) for record, name in zip(self.records, names, strict=True)]


def faster(original: Any, self: SyntheticSpeech, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    self.records = [dataclasses.replace(record, duration=record.duration / 2) for record in self.records]


def telephone(original: Any, self: BaseDataset, record: Record) -> tuple[Tensor, int]:
    waveform, rate = original(self, record)
    return audio.resample(waveform, rate, 8000), 16000


def half_the_rate(original: Any, self: BaseDataset, record: Record) -> tuple[Tensor, int]:
    return original(self, record)[0], 8000


def slower(original: Any, self: SyntheticSpeech, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    self.records = [dataclasses.replace(record, duration=record.duration * 2) for record in self.records]


def features_of_another_day(trainer: BaseTrainer) -> None:
    """The cache was filled by the magnitudes, the features take the power now."""
    trainer.setup.task.features.power = 2  # type: ignore[union-attr]


def constants_of_another(trainer: BaseTrainer) -> None:
    """A vocoder that says nothing of its constants: it takes mel bins for those of another scale and edge."""
    trainer.vocoder = GriffinLim(TTSFeatures(mel_scale="htk", norm=None, f_max=None))  # type: ignore[attr-defined]


def louder(original: Any, self: Split, i: int) -> Tensor:
    return original(self, i) * 32768


def freeze_convolutions(original: Any, self: DeepSpeech2, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    self.convs.requires_grad_(False)


def all_lengths_equal(original: Any, self: BiRNN, x: Tensor, length: Tensor) -> Tensor:
    return original(self, x, torch.full_like(length, x.shape[1]))


def backward_not_turned_back(original: Any, self: BiRNN, x: Tensor, length: Tensor) -> Tensor:
    y = original(self, x, length)
    return torch.cat([y[..., : y.shape[-1] // 2], y[..., y.shape[-1] // 2 :].flip(1)], dim=-1)


def statistics_stand_still(trainer: BaseTrainer) -> None:
    for module in trainer.model.modules():
        if isinstance(module, MaskedBatchNorm):
            module.momentum = 0.0


def over_the_batch(original: Any, self: BiRNN, x: Tensor, length: Tensor) -> Tensor:
    turned = x.transpose(0, 1)
    return original(self, turned, torch.full_like(length[:1], turned.shape[1]).expand(len(turned))).transpose(0, 1)


def dropout_in_evaluation(original: Any, self: BiRNN, x: Tensor, length: Tensor) -> Tensor:
    return F.dropout(original(self, x, length), 0.2, training=True)


def nan_now_and_then(original: Any, self: ItemMaker, waveform: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    waveform, spectrogram = original(self, waveform, *arguments)
    return waveform, spectrogram / (spectrogram[:, :1] * 0 if len(waveform) % 3 == 0 else 1)


def detached(original: Any, self: ConvBlock, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    y, length = original(self, x, length)
    return y.detach(), length


def logarithm(original: Any, self: ConvBlock, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    y, length = original(self, x, length)
    return y.log(), length


def half_of_the_parameters(trainer: BaseTrainer) -> None:
    (optimization,) = trainer.optimizations.values()
    optimization.parameters = optimization.parameters[::2]
    optimization.optimizer.param_groups[0]["params"] = optimization.parameters


def zero_grad_missing(trainer: BaseTrainer) -> None:
    for optimization in trainer.optimizations.values():
        optimization.zero_grad = lambda: None  # type: ignore[method-assign]


def never_updated(trainer: BaseTrainer) -> None:
    trainer.optimizations["discriminator"].optimizer.step = lambda: None  # type: ignore[method-assign]


def large_values_of_float16(original: Any, self: CTCTrainer, batch: dict[str, Any]) -> Any:
    for name, losses in original(self, batch):
        yield name, {key: dataclasses.replace(loss, total=loss.total * 1e37) for key, loss in losses.items()}


def one_frame_more(original: Any, self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    item = original(self, *args, **kwargs)
    item["durations"] = item["durations"].clone()
    item["durations"][0] += 1
    return item


def hertz_for_logarithms(trainer: BaseTrainer) -> None:
    trainer.model.pitch.log = False  # type: ignore[union-attr, assignment]


def both(*patches: Patch) -> Patch:
    """Several patches at once."""

    @contextlib.contextmanager
    def together() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for one in patches:
                stack.enter_context(one())
            yield

    return together
