"""The faults, each with the names that are right for it; these were written before anything was measured."""

import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from hw_asr.data.items import ItemMaker
from hw_asr.models.deepspeech2 import ConvBlock, DeepSpeech2
from hw_asr.task import RecognitionTask
from hw_asr.trainer import CTCTrainer
from hw_base.audio import io as audio
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.config import resolve
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.split import Split
from hw_base.nn.layers import BiRNN
from hw_base.synthetic.corpus import SyntheticSpeech
from hw_base.training.trainer import BaseTrainer
from hw_tts.data.items import TTSItemMaker as SynthesisItems
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.vocoders.griffin_lim import GriffinLim
from tests.conftest import ROOT
from tests.faults_of_training.play import RECOGNITION, SYNTHESIS, changed

Patch = Callable[[], contextlib.AbstractContextManager[Any]]
LR = "optimizers__model__args__lr"
SCHEDULER = "optimizers__model__scheduler"


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes:
        name: for people.
        right: names of findings, or parts of the doctor's sentences, that name it rightly.
        config: the run with it.
        patch: as in `tests.faults_of_training.play.run`, and the following.
        change: of the trainer.
        component: that is checked too.
    """

    name: str
    right: tuple[str, ...]
    config: dict[str, Any] = dataclasses.field(default_factory=lambda: RECOGNITION)
    patch: Patch = contextlib.nullcontext
    change: Callable[[BaseTrainer], None] = lambda trainer: None
    component: str | None = None


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


def with_log_probs(change: Callable[[Tensor], Tensor]) -> Patch:
    return outputs(lambda out: {**out, "log_probs": change(out["log_probs"])})


def _blank_elsewhere(original: Any, self: CTCTrainer, batch: dict[str, Any]) -> Any:
    batch.update(self.networks["model"](**batch))
    shifted = {**batch, "log_probs": batch["log_probs"].roll(-1, dims=-1)}
    yield "model", {name: loss(**shifted) for name, loss in self.loss_modules.items()}


def _shuffled(original: Any, self: SyntheticSpeech, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    texts = [record.text for record in self.records]
    half = len(texts) // 2
    moved = zip(self.records, texts[half:] + texts[:half], strict=True)
    self.records = [dataclasses.replace(record, text=text) for record, text in moved]


def _one_text(original: Any, self: SyntheticSpeech, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    self.records = [dataclasses.replace(record, text=self.records[0].text) for record in self.records]


def _first_words(original: Any, self: SyntheticSpeech, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    self.records = [dataclasses.replace(record, text=record.text.split()[0]) for record in self.records]


def _half_silent(original: Any, self: Split, i: int) -> Tensor:
    return original(self, i) * (i % 2)


def _negative(original: Any, self: CTCTrainer, batch: dict[str, Any]) -> Any:
    for name, losses in original(self, batch):
        yield name, {key: dataclasses.replace(loss, total=-loss.total) for key, loss in losses.items()}


def _large_weights(trainer: BaseTrainer) -> None:
    for parameter in trainer.model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(100)


def _discriminator_too_fast(trainer: BaseTrainer) -> None:
    for group in trainer.optimizations["discriminator"].optimizer.param_groups:
        group["lr"] *= 300


def _speakers_shuffled(original: Any, self: SyntheticSpeech, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    names = [record.speaker for record in self.records]
    random.Random(0).shuffle(names)
    self.records = [dataclasses.replace(record, speaker=name) for record, name in zip(self.records, names, strict=True)]


def _faster(original: Any, self: SyntheticSpeech, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    self.records = [dataclasses.replace(record, duration=record.duration / 2) for record in self.records]


def _telephone(original: Any, self: BaseDataset, record: Record) -> tuple[Tensor, int]:
    waveform, rate = original(self, record)
    return audio.resample(waveform, rate, 8000), 16000


def _half_the_rate(original: Any, self: BaseDataset, record: Record) -> tuple[Tensor, int]:
    return original(self, record)[0], 8000


def _slower(original: Any, self: SyntheticSpeech, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    self.records = [dataclasses.replace(record, duration=record.duration * 2) for record in self.records]


def _features_of_another_day(trainer: BaseTrainer) -> None:
    """The cache was filled by the magnitudes, the features take the power now."""
    trainer.setup.task.features.power = 2  # type: ignore[union-attr]


def _constants_of_another(trainer: BaseTrainer) -> None:
    """A vocoder that says nothing of its constants: it takes mel bins for those of another scale and edge."""
    trainer.vocoder = GriffinLim(TTSFeatures(mel_scale="htk", norm=None, f_max=None))  # type: ignore[attr-defined]


def _louder(original: Any, self: Split, i: int) -> Tensor:
    return original(self, i) * 32768


def _freeze_convolutions(original: Any, self: DeepSpeech2, *args: Any, **kwargs: Any) -> None:
    original(self, *args, **kwargs)
    self.convs.requires_grad_(False)


def _all_lengths_equal(original: Any, self: BiRNN, x: Tensor, length: Tensor) -> Tensor:
    return original(self, x, torch.full_like(length, x.shape[1]))


def _over_the_batch(original: Any, self: BiRNN, x: Tensor, length: Tensor) -> Tensor:
    turned = x.transpose(0, 1)
    return original(self, turned, torch.full_like(length[:1], turned.shape[1]).expand(len(turned))).transpose(0, 1)


def _dropout_in_evaluation(original: Any, self: BiRNN, x: Tensor, length: Tensor) -> Tensor:
    return F.dropout(original(self, x, length), 0.2, training=True)


def _nan_now_and_then(original: Any, self: ItemMaker, waveform: Tensor, generator: Any) -> tuple[Tensor, Tensor]:
    waveform, spectrogram = original(self, waveform, generator)
    return waveform, spectrogram / (spectrogram[:, :1] * 0 if len(waveform) % 3 == 0 else 1)


def _detached(original: Any, self: ConvBlock, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    y, length = original(self, x, length)
    return y.detach(), length


def _logarithm(original: Any, self: ConvBlock, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    y, length = original(self, x, length)
    return y.log(), length


def _half_of_the_parameters(trainer: BaseTrainer) -> None:
    (optimization,) = trainer.optimizations.values()
    optimization.parameters = optimization.parameters[::2]
    optimization.optimizer.param_groups[0]["params"] = optimization.parameters


def _zero_grad_missing(trainer: BaseTrainer) -> None:
    for optimization in trainer.optimizations.values():
        optimization.zero_grad = lambda: None  # type: ignore[method-assign]


def _never_updated(trainer: BaseTrainer) -> None:
    trainer.optimizations["discriminator"].optimizer.step = lambda: None  # type: ignore[method-assign]


def _large_values_of_float16(original: Any, self: CTCTrainer, batch: dict[str, Any]) -> Any:
    for name, losses in original(self, batch):
        yield name, {key: dataclasses.replace(loss, total=loss.total * 1e37) for key, loss in losses.items()}


def _one_frame_more(original: Any, self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    item = original(self, *args, **kwargs)
    item["durations"] = item["durations"].clone()
    item["durations"][0] += 1
    return item


def _hertz_for_logarithms(trainer: BaseTrainer) -> None:
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


DURATION_FAULT = around(SynthesisItems, "__call__", _one_frame_more)
HIFIGAN = changed(
    resolve.read(ROOT / "configs" / "tiny" / "hifigan.json"),
    trainer__max_steps=24,
    trainer__log_every=2,
    trainer__eval_every=1000,
    trainer__monitor=None,
)
MASKS = {"type": "SpecAugment", "args": {"n_freq_masks": 30, "freq_width": 40, "n_time_masks": 0}}
SPEAKERS = changed(
    SYNTHESIS,
    data__train__datasets__0__args__voices=["en-us", "en-us+f3", "en-us+m4"],
    data__train__datasets__0__args__n_utterances=24,
)
PER_EPOCH = {"type": "WarmupDecay", "args": {"warmup_steps": 100}, "every": "epoch"}

FAULTS = (
    Fault("blank at another place", ("one_symbol",), patch=around(CTCTrainer, "losses", _blank_elsewhere)),
    Fault(
        "lengths off by the stride",
        ("output_lengths_wrong", "output lengths are wrong"),
        patch=outputs(lambda out: {**out, "log_probs_length": out["log_probs_length"] // 2}),
    ),
    Fault("learning rate x 100", ("lr_too_high", "diverging"), changed(RECOGNITION, **{LR: 0.3})),
    Fault("learning rate / 1000", ("lr_too_low",), changed(RECOGNITION, **{LR: 3e-6})),
    Fault(
        "transcripts of other audio",
        ("transcripts seem to belong to other audio",),
        patch=around(SyntheticSpeech, "__init__", _shuffled),
    ),
    Fault(
        "features not normalized",
        ("features_not_normalized", "features are out of range"),
        changed(RECOGNITION, features__args__normalize="none"),
        around(Split, "waveform", _louder),
    ),
    Fault(
        "padding leaks",
        ("padding leaks into valid frames", "alone"),
        patch=around(BiRNN, "forward", _all_lengths_equal),
        component="DeepSpeech2",
    ),
    Fault("frozen encoder", ("frozen_parameters",), patch=around(DeepSpeech2, "__init__", _freeze_convolutions)),
    Fault(
        "dropout in evaluation",
        ("evaluation is random", "evaluation"),
        patch=around(BiRNN, "forward", _dropout_in_evaluation),
        component="DeepSpeech2",
    ),
    Fault(
        "vocabulary without a letter",
        ("the vocabulary lacks symbols",),
        changed(
            RECOGNITION, text_encoder={"type": "CharTextEncoder", "args": {"alphabet": " abcdfghijklmnopqrstuvwxyz'"}}
        ),
    ),
    Fault(
        "half of the data does not fit",
        ("targets_do_not_fit", "transcripts hardly fit"),
        changed(RECOGNITION, model__args__time_stride=9),
        around(RecognitionTask, "unusable_utterances", lambda original, *args: {}),
    ),
    Fault(
        "augmentation gives NaN",
        ("nan_in_input", "features are not finite"),
        patch=around(ItemMaker, "augmented", _nan_now_and_then),
    ),
    Fault(
        "masks hide everything",
        ("features_flat", "augmentations hide the speech"),
        changed(RECOGNITION, augmentations=[MASKS]),
    ),
    Fault(
        "logarithm of zero",
        ("nan_in_input", "features are not finite"),
        changed(RECOGNITION, features__args__normalize="none"),
        log_mel(lambda x: (x.exp() * 0).log()),
    ),
    Fault(
        "logarithm taken twice",
        ("features_flat", "features are out of range"),
        patch=log_mel(lambda x: x.clamp(min=1e-5).log()),
    ),
    Fault("softmax taken twice", ("posteriors_flat",), patch=with_log_probs(lambda x: x.exp().log_softmax(-1))),
    Fault(
        "softmax over the wrong axis",
        ("posteriors_not_normalized", "posteriors do not sum to 1"),
        patch=with_log_probs(lambda x: x.log_softmax(1)),
    ),
    Fault(
        "batch and time swapped",
        ("padding leaks into valid frames", "alone", "batch"),
        patch=around(BiRNN, "forward", _over_the_batch),
        component="DeepSpeech2",
    ),
    Fault(
        "a detached tensor",
        ("no_gradient", "parameters without a gradient"),
        patch=around(ConvBlock, "forward", _detached),
    ),
    Fault("optimizer without half of the parameters", ("parameters_not_optimized",), change=_half_of_the_parameters),
    Fault("schedule stepped per epoch", ("schedule_too_slow",), changed(RECOGNITION, **{SCHEDULER: PER_EPOCH})),
    Fault("gradients not zeroed", ("gradients_not_zeroed",), change=_zero_grad_missing),
    Fault("clipping at 1e-6", ("clipped_to_nothing",), changed(RECOGNITION, optimizers__model__clip_norm=1e-6)),
    Fault("weight decay 10", ("weights_shrink",), changed(RECOGNITION, optimizers__model__args__weight_decay=10.0)),
    Fault(
        "validation equal to training",
        ("share utterances",),
        changed(RECOGNITION, data__val__datasets__0__args={"part": "train", "n_utterances": 48}, data__val__limit=6),
    ),
    Fault(
        "a layer that gives infinity",
        ("nan_in_layer", "the first layer that gives values that are not finite"),
        patch=around(ConvBlock, "forward", _logarithm),
    ),
    Fault(
        "float16 overflow",
        ("loss_scale_sinks", "nan_in_gradients", "nan_in_loss"),
        changed(RECOGNITION, trainer__amp="fp16"),
        around(CTCTrainer, "losses", _large_values_of_float16),
    ),
    Fault(
        "audio of 8 kHz taken as 16 kHz",
        ("speech is implausibly fast",),
        changed(RECOGNITION, model__args__time_stride=2),
        both(around(SyntheticSpeech, "__init__", _faster), around(BaseDataset, "read", _telephone)),
    ),
    Fault(
        "audio of 16 kHz taken as 8 kHz",
        ("slow speech without anything above", "bands_empty"),
        patch=both(around(SyntheticSpeech, "__init__", _slower), around(BaseDataset, "read", _half_the_rate)),
    ),
    Fault(
        "an index of other sample rates",
        ("durations of the index are not those of the audio",),
        patch=around(BaseDataset, "read", _half_the_rate),
    ),
    Fault(
        "speakers swapped",
        ("speakers seem to belong to other audio",),
        SPEAKERS,
        around(SyntheticSpeech, "__init__", _speakers_shuffled),
    ),
    Fault("stale feature cache", ("cached features are not those",), SYNTHESIS, change=_features_of_another_day),
    Fault(
        "mel constants of another vocoder",
        ("the vocoder does not understand the features", "made for other mel spectrograms"),
        SYNTHESIS,
        change=_constants_of_another,
    ),
    Fault("durations off by one frame", ("durations_wrong", "durations do not sum"), SYNTHESIS, DURATION_FAULT),
    Fault(
        "pitch in Hz where its logarithm is meant",
        ("pitch_out_of_range", "pitch is not normalized"),
        SYNTHESIS,
        change=_hertz_for_logarithms,
    ),
    Fault("discriminator never updated", ("never_moves",), HIFIGAN, change=_never_updated),
    Fault("one text for all", ("all transcripts are the same",), patch=around(SyntheticSpeech, "__init__", _one_text)),
    Fault(
        "first words for transcripts",
        ("transcripts are short for their audio",),
        patch=around(SyntheticSpeech, "__init__", _first_words),
    ),
    Fault("every second recording silent", ("next to silence",), patch=around(Split, "waveform", _half_silent)),
    Fault("sign of the loss turned", ("a loss is negative",), patch=around(CTCTrainer, "losses", _negative)),
    Fault("initial weights x 100", ("the first loss is high", "gradients_explode"), change=_large_weights),
    Fault(
        "rate of the discriminator x 300",
        ("lr_too_high", "discriminator_wins"),
        HIFIGAN,
        change=_discriminator_too_fast,
    ),
    Fault(
        "SGD with the rate of AdamW / 30",
        ("lr_too_low",),
        changed(RECOGNITION, optimizers__model__type="SGD", optimizers__model__args={"lr": 1e-4}),
    ),
)

HEALTHY = {
    "the run itself": RECOGNITION,
    "synthesis": SYNTHESIS,
    "several speakers": SPEAKERS,
    "vocoder": HIFIGAN,
    "half the rate": changed(RECOGNITION, **{LR: 0.0015}),
    "twice the rate": changed(RECOGNITION, **{LR: 0.006}),
    "no clipping": changed(RECOGNITION, optimizers__model__clip_norm=None),
    "no schedule": changed(RECOGNITION, **{SCHEDULER: None}),
    "dropout": changed(RECOGNITION, model__args__dropout=0.3),
    "normalized by bin": changed(RECOGNITION, features__args__normalize="per_bin"),
    "accumulation": changed(RECOGNITION, trainer__accumulate=2),
    "bfloat16": changed(RECOGNITION, trainer__amp="bf16"),
    "average of weights": changed(RECOGNITION, trainer__ema_decay=0.99),
    "another seed": changed(RECOGNITION, seed=7),
}
