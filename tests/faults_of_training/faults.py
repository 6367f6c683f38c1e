"""The faults, each with the names that are right for it; these were written before anything was measured."""

import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hw_asr.data.items import ItemMaker
from hw_asr.models.deepspeech2 import ConvBlock, DeepSpeech2
from hw_asr.task import RecognitionTask
from hw_asr.trainer import CTCTrainer
from hw_base.config import resolve
from hw_base.data.dataset import BaseDataset
from hw_base.data.split import Split
from hw_base.nn.layers import BiRNN
from hw_base.synthetic.corpus import SyntheticSpeech
from hw_base.training.trainer import BaseTrainer
from hw_tts.data.items import TTSItemMaker as SynthesisItems
from tests.conftest import ROOT
from tests.faults_of_training import plants
from tests.faults_of_training.plants import Patch, around, both, log_mel, outputs, with_log_probs
from tests.faults_of_training.play import RECOGNITION, SYNTHESIS, changed

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


DURATION_FAULT = around(SynthesisItems, "__call__", plants.one_frame_more)
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
    Fault("blank at another place", ("one_symbol",), patch=around(CTCTrainer, "losses", plants.blank_elsewhere)),
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
        patch=around(SyntheticSpeech, "__init__", plants.shuffled),
    ),
    Fault(
        "features not normalized",
        ("features_not_normalized", "features are out of range"),
        changed(RECOGNITION, features__args__normalize="none"),
        around(Split, "waveform", plants.louder),
    ),
    Fault(
        "padding leaks",
        ("padding leaks into valid frames", "alone"),
        patch=around(BiRNN, "forward", plants.all_lengths_equal),
        component="DeepSpeech2",
    ),
    Fault("frozen encoder", ("frozen_parameters",), patch=around(DeepSpeech2, "__init__", plants.freeze_convolutions)),
    Fault(
        "dropout in evaluation",
        ("evaluation is random", "evaluation"),
        patch=around(BiRNN, "forward", plants.dropout_in_evaluation),
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
        patch=around(ItemMaker, "augmented", plants.nan_now_and_then),
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
        patch=around(BiRNN, "forward", plants.over_the_batch),
        component="DeepSpeech2",
    ),
    Fault(
        "a detached tensor",
        ("no_gradient", "parameters without a gradient"),
        patch=around(ConvBlock, "forward", plants.detached),
    ),
    Fault(
        "optimizer without half of the parameters", ("parameters_not_optimized",), change=plants.half_of_the_parameters
    ),
    Fault("schedule stepped per epoch", ("schedule_too_slow",), changed(RECOGNITION, **{SCHEDULER: PER_EPOCH})),
    Fault("gradients not zeroed", ("gradients_not_zeroed",), change=plants.zero_grad_missing),
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
        patch=around(ConvBlock, "forward", plants.logarithm),
    ),
    Fault(
        "float16 overflow",
        ("loss_scale_sinks", "nan_in_gradients", "nan_in_loss"),
        changed(RECOGNITION, trainer__amp="fp16"),
        around(CTCTrainer, "losses", plants.large_values_of_float16),
    ),
    Fault(
        "audio of 8 kHz taken as 16 kHz",
        ("speech is implausibly fast",),
        changed(RECOGNITION, model__args__time_stride=2),
        both(around(SyntheticSpeech, "__init__", plants.faster), around(BaseDataset, "read", plants.telephone)),
    ),
    Fault(
        "audio of 16 kHz taken as 8 kHz",
        ("slow speech without anything above", "bands_empty"),
        patch=both(
            around(SyntheticSpeech, "__init__", plants.slower), around(BaseDataset, "read", plants.half_the_rate)
        ),
    ),
    Fault(
        "an index of other sample rates",
        ("durations of the index are not those of the audio",),
        patch=around(BaseDataset, "read", plants.half_the_rate),
    ),
    Fault(
        "speakers swapped",
        ("speakers seem to belong to other audio",),
        SPEAKERS,
        around(SyntheticSpeech, "__init__", plants.speakers_shuffled),
    ),
    Fault("stale feature cache", ("cached features are not those",), SYNTHESIS, change=plants.features_of_another_day),
    Fault(
        "mel constants of another vocoder",
        ("the vocoder does not understand the features", "made for other mel spectrograms"),
        SYNTHESIS,
        change=plants.constants_of_another,
    ),
    Fault("durations off by one frame", ("durations_wrong", "durations do not sum"), SYNTHESIS, DURATION_FAULT),
    Fault(
        "pitch in Hz where its logarithm is meant",
        ("pitch_out_of_range", "pitch is not normalized"),
        SYNTHESIS,
        change=plants.hertz_for_logarithms,
    ),
    Fault("discriminator never updated", ("never_moves",), HIFIGAN, change=plants.never_updated),
    Fault(
        "one text for all",
        ("all transcripts are the same",),
        patch=around(SyntheticSpeech, "__init__", plants.one_text),
    ),
    Fault(
        "first words for transcripts",
        ("transcripts are short for their audio",),
        patch=around(SyntheticSpeech, "__init__", plants.first_words),
    ),
    Fault("every second recording silent", ("next to silence",), patch=around(Split, "waveform", plants.half_silent)),
    Fault("sign of the loss turned", ("a loss is negative",), patch=around(CTCTrainer, "losses", plants.negative)),
    Fault("initial weights x 100", ("the first loss is high", "gradients_explode"), change=plants.large_weights),
    Fault(
        "rate of the discriminator x 300",
        ("lr_too_high", "discriminator_wins"),
        HIFIGAN,
        change=plants.discriminator_too_fast,
    ),
    Fault(
        "SGD with the rate of AdamW / 30",
        ("lr_too_low",),
        changed(RECOGNITION, optimizers__model__type="SGD", optimizers__model__args={"lr": 1e-4}),
    ),
    Fault("running statistics stand still", ("running statistics never change",), change=plants.statistics_stand_still),
    Fault(
        "output reversed in time",
        ("the output does not follow the input in time",),
        patch=with_log_probs(lambda x: x.flip(1)),
    ),
    Fault(
        "backward recurrence not turned back",
        ("the output does not follow the input in time",),
        changed(RECOGNITION, model__args__combine="concat"),
        around(BiRNN, "forward", plants.backward_not_turned_back),
    ),
    Fault("one batch in every step", ("same_utterances",), change=plants.one_batch_for_ever),
    Fault("training in evaluation mode", ("evaluation_mode",), change=plants.never_in_training_mode),
    Fault(
        "tokens of the next utterance",
        ("tokens are not those of the transcripts",),
        patch=plants.tokens(lambda tokens: tokens[1:] + tokens[:1]),
    ),
    Fault(
        "tokens turned",
        ("tokens are not those of the transcripts",),
        patch=plants.tokens(lambda tokens: [one.flip(0) for one in tokens]),
    ),
    Fault("dropout 0.95", ("dropout hides nearly everything",), changed(RECOGNITION, model__args__dropout=0.95)),
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
