"""SpeechBrain's CTC recipes, small enough for a CPU; `benchmarks.librispeech_mini_peer` trains them.

Features, augmentation, models, optimizer, schedule, batches, checkpoints and their average, greedy decoding and beam
search are SpeechBrain's own, as its recipes have them; the learning rate follows the share of a budget that is used.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import speechbrain as sb
import torch
from speechbrain.augment.augmenter import Augmenter
from speechbrain.augment.time_domain import DropChunk, DropFreq, SpeedPerturb
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.decoders import ctc_greedy_decode
from speechbrain.decoders.ctc import CTCBeamSearcher
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
from speechbrain.lobes.models.CRDNN import CRDNN
from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
from speechbrain.nnet.linear import Linear
from speechbrain.nnet.losses import ctc_loss
from speechbrain.nnet.RNN import LSTM
from speechbrain.nnet.schedulers import WarmCoolDecayLRSchedule
from speechbrain.processing.features import InputNormalization
from speechbrain.utils.checkpoints import Checkpointer, average_checkpoints
from speechbrain.utils.epoch_loop import EpochCounter
from torch import Tensor, nn

from hw_base.data.split import Split
from hw_base.errors import REQUEUE_EXIT_CODE

RATE = 16_000
BLANK = 0
# Of the budget: the learning rate rises, stays, and falls to nothing.
WARM_UP, COOL_DOWN, TICKS = 0.08, 0.5, 10_000
KEPT = 10  # checkpoints, the best on val
Scores = Callable[[dict[str, str], dict[str, str]], dict[str, float]]


class Clock(Protocol):
    """What says how much of a budget is used, and is kept in checkpoints."""

    def used(self) -> float:
        """Minutes."""

    def share(self, steps: int) -> float:
        """From 0 to 1, and beyond."""

    def save(self, path: str) -> None:
        """Into a checkpoint."""

    def load(self, path: str, end_of_epoch: bool = False) -> None:
        """From the checkpoint that the run resumes from."""


class RecurrentNetwork(nn.Module):
    """Convolutions with pooling to frames of 40 ms, a bidirectional LSTM, a dense layer."""

    def __init__(self, n_mels: int, width: int) -> None:
        super().__init__()
        self.network = CRDNN(
            input_size=n_mels,
            cnn_channels=(16, 32),
            using_2d_pooling=True,
            rnn_class=LSTM,
            rnn_layers=3,
            rnn_neurons=width,
            rnn_re_init=True,
            dnn_blocks=1,
            dnn_neurons=width,
        )

    def forward(self, x: Tensor, relative: Tensor) -> Tensor:
        return self.network(x)


class ConformerNetwork(nn.Module):
    """Two convolutions, to frames of 40 ms, and a Conformer."""

    def __init__(self, n_mels: int, width: int, n_layers: int = 8) -> None:
        super().__init__()
        self.front = ConvolutionFrontEnd(
            input_shape=(8, 10, n_mels),
            num_blocks=2,
            num_layers_per_block=1,
            out_channels=(64, 32),
            kernel_sizes=(3, 3),
            strides=(2, 2),
            residuals=(False, False),
        )
        self.encoder = TransformerASR(
            input_size=8 * n_mels,
            tgt_vocab=2,
            d_model=width,
            nhead=4,
            num_encoder_layers=n_layers,
            num_decoder_layers=0,
            d_ffn=4 * width,
            dropout=0.1,
            activation=nn.GELU,
            encoder_module="conformer",
            attention_type="RelPosMHAXL",
            normalize_before=True,
            causal=False,
        )

    def forward(self, x: Tensor, relative: Tensor) -> Tensor:
        return self.encoder.encode(self.front(x), relative)


@dataclass(frozen=True)
class Recipe:
    """One of SpeechBrain's.

    Args:
        network: of frames (B, T, n_mels) and relative lengths (B,), made from ``n_mels`` and ``width``.
        n_mels: bins of its features.
        n_fft: samples of its windows' transform.
        width: of its output.
        optimizer: of parameters.
        seconds: of the recordings in a batch, before as many augmented ones join them.
    """

    network: Callable[[int, int], nn.Module]
    n_mels: int
    n_fft: int
    width: int
    optimizer: Callable[..., torch.optim.Optimizer]
    seconds: float = 25.0

    def changed(self, rate: float | None, seconds: float | None) -> "Recipe":
        """With another learning rate, other batches, or both."""
        optimizer = self.optimizer if rate is None else partial(self.optimizer, lr=rate)
        return replace(self, optimizer=optimizer, seconds=self.seconds if seconds is None else seconds)


ADAMW = partial(torch.optim.AdamW, lr=1e-3, betas=(0.9, 0.98), eps=1e-9, weight_decay=5e-4)
RECIPES = {
    "crdnn": Recipe(RecurrentNetwork, 40, 400, 256, ADAMW),
    "conformer": Recipe(ConformerNetwork, 80, 512, 144, ADAMW),
}


def augmenter() -> Augmenter:
    """What both recipes do to waveforms: each recording as it is, and once with another speed and with drops."""
    drops = DropFreq(drop_freq_count_low=1, drop_freq_count_high=3, drop_freq_width=0.05)
    chunks = DropChunk(drop_length_low=1000, drop_length_high=2000, drop_count_low=1, drop_count_high=5)
    return Augmenter(
        concat_original=True,
        min_augmentations=3,
        max_augmentations=3,
        augmentations=[SpeedPerturb(RATE, speeds=[95, 100, 105]), drops, chunks],
    )


def dataset_of(split: Split, encoder: Any) -> DynamicItemDataset:
    """A split as SpeechBrain's dataset, the longest utterance first; an item is a waveform and its tokens."""
    items = {
        record.utterance_id: {"index": i, "duration": record.duration, "text": encoder.normalize(record.text)}
        for i, record in enumerate(split.records)
    }
    dataset = DynamicItemDataset(items, output_keys=["id", "signal", "tokens", "text"])
    dataset.add_dynamic_item(split.waveform, takes="index", provides="signal")
    dataset.add_dynamic_item(lambda text: torch.tensor(encoder.encode(text)), takes="text", provides="tokens")
    return dataset.filtered_sorted(sort_key="duration", reverse=True)


class Peer(sb.Brain):
    """The trainer of a recipe.

    Args:
        recipe: one of `RECIPES`.
        encoder: of texts; its token 0 is the blank.
        clock: of the budget.
        folder: where checkpoints and ``log.jsonl`` go; a run that is there is resumed.
        scores: error rates of references and texts by utterance; ``wer`` chooses checkpoints.

    Attributes:
        posteriors: what the last evaluation computed, (T, V) by utterance.
        references: its transcripts by utterance.
        stopping: save at the next step and end the program.
    """

    def __init__(self, recipe: Recipe, encoder: Any, clock: Clock, folder: Path, scores: Scores) -> None:
        modules = {
            "network": recipe.network(recipe.n_mels, recipe.width),
            "head": Linear(input_size=recipe.width, n_neurons=len(encoder)),
            "normalize": InputNormalization(norm_type="global", update_until_epoch=4),
        }
        counter, model = EpochCounter(limit=sys.maxsize), nn.ModuleList([modules["network"], modules["head"]])
        kept = {"model": model, "normalize": modules["normalize"], "counter": counter}
        checkpointer = Checkpointer(folder / "checkpoints", kept)
        checkpointer.add_recoverable("clock", clock, type(clock).load, type(clock).save)
        rate = recipe.optimizer(model.parameters()).param_groups[0]["lr"]
        ticks = round(WARM_UP * TICKS), round(COOL_DOWN * TICKS), TICKS
        hparams = {
            "model": model,
            "augment": augmenter(),
            "features": Fbank(sample_rate=RATE, n_fft=recipe.n_fft, n_mels=recipe.n_mels),
            "counter": counter,
            "schedule": WarmCoolDecayLRSchedule(rate, *ticks, decay_factor=1.0),
        }
        options = {"device": "cpu", "noprogressbar": True, "ckpt_interval_minutes": 3}
        super().__init__(modules, recipe.optimizer, hparams, options, checkpointer)
        self.recipe, self.encoder, self.clock, self.folder, self.scores = recipe, encoder, clock, folder, scores
        self.stopping = False

    def train_on(self, training: Split, validation: Split) -> None:
        """Train, or resume, until the budget is used."""
        data = dataset_of(training, self.encoder)
        seed = torch.initial_seed()
        self.train_sampler = DynamicBatchSampler(data, self.recipe.seconds, num_buckets=40, shuffle=True, seed=seed)
        loading = {"batch_sampler": self.train_sampler}
        self.fit(
            self.hparams.counter,
            data,
            dataset_of(validation, self.encoder),
            train_loader_kwargs=loading,
            valid_loader_kwargs={"batch_size": 8},
        )

    def hear(self, split: Split) -> dict[str, Tensor]:
        """Natural logarithms of posteriors, (T, V), by utterance, one at a time."""
        self.evaluate(dataset_of(split, self.encoder), test_loader_kwargs={"batch_size": 1})
        return self.posteriors

    def average(self, count: int) -> None:
        """Take the average of the best checkpoints on val."""
        chosen = self.checkpointer.find_checkpoints(min_key="wer", max_num_checkpoints=count)
        self.hparams.model.load_state_dict(average_checkpoints(chosen, "model"))

    def compute_forward(self, batch: Any, stage: sb.Stage) -> tuple[Tensor, Tensor]:
        waveforms, relative = batch.signal
        epoch = sys.maxsize  # the statistics stay as they are
        if stage == sb.Stage.TRAIN:
            waveforms, relative = self.hparams.augment(waveforms, relative)
            epoch = self.hparams.counter.current
        features = self.modules.normalize(self.hparams.features(waveforms), relative, epoch=epoch)
        return self.modules.head(self.modules.network(features, relative)).log_softmax(-1), relative

    def compute_objectives(self, predictions: tuple[Tensor, Tensor], batch: Any, stage: sb.Stage) -> Tensor:
        log_probs, relative = predictions
        tokens, tokens_relative = batch.tokens
        if stage == sb.Stage.TRAIN:
            tokens = self.hparams.augment.replicate_labels(tokens)
            tokens_relative = self.hparams.augment.replicate_labels(tokens_relative)
        else:
            frames = (relative * log_probs.shape[1]).round().long().tolist()
            self.posteriors |= {i: x[:n] for i, x, n in zip(batch.id, log_probs, frames, strict=True)}
            self.references |= dict(zip(batch.id, batch.text, strict=True))
        return ctc_loss(log_probs, tokens, relative, tokens_relative, BLANK, reduction="batchmean")

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.optimizer_step:
            print(f"resumed at step {self.optimizer_step}, {self.clock.used():.1f} minutes used", flush=True)
            torch.manual_seed(torch.initial_seed() + self.optimizer_step)  # not the changes of its start again

    def on_fit_batch_start(self, batch: Any, should_step: bool) -> None:
        share = min(self.clock.share(self.optimizer_step), 1.0)
        self.hparams.schedule(self.optimizer, max(1, round(TICKS * share)))

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        self.posteriors: dict[str, Tensor] = {}
        self.references: dict[str, str] = {}

    def on_stage_end(self, stage: sb.Stage, stage_loss: float, epoch: int | None = None) -> None:
        if stage == sb.Stage.TRAIN:
            self.train_loss = float(stage_loss)
        elif stage == sb.Stage.VALID:
            rates = self.scores(self.references, greedy(self.posteriors, self.encoder))
            self.checkpointer.save_and_keep_only(meta=rates, min_keys=["wer"], num_to_keep=KEPT)
            line = {"epoch": epoch, "step": self.optimizer_step, "cpu_minutes": self.clock.used()}
            line |= {"lr": self.optimizer.param_groups[0]["lr"], "train_loss": self.train_loss}
            line |= {"val_loss": float(stage_loss), **rates}
            with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)

    def on_evaluate_start(self, max_key: str | None = None, min_key: str | None = None) -> None:
        """No checkpoint is loaded: `average` did that."""

    @property
    def _optimizer_step_limit_exceeded(self) -> bool:
        return self.clock.share(self.optimizer_step) >= 1.0

    def _should_save_intra_epoch_ckpt(self, *given: Any) -> bool:
        return self.stopping or super()._should_save_intra_epoch_ckpt(*given)

    def _save_intra_epoch_ckpt(self) -> None:
        super()._save_intra_epoch_ckpt()
        if self.stopping:
            print(f"stopped at step {self.optimizer_step}; the same command resumes", flush=True)
            raise SystemExit(REQUEUE_EXIT_CODE)


def greedy(posteriors: dict[str, Tensor], encoder: Any) -> dict[str, str]:
    """Texts by greedy decoding, by utterance."""
    decoded = {i: ctc_greedy_decode(x[None], torch.ones(1), blank_id=BLANK)[0] for i, x in posteriors.items()}
    return {i: encoder.decode(tokens) for i, tokens in decoded.items()}


def searched(posteriors: dict[str, Tensor], encoder: Any, **options: Any) -> dict[str, str]:
    """Texts by beam search with its own widths, by utterance; an n-gram model and its weights may be given."""
    vocabulary = ["", *(encoder.decode([i]) for i in range(1, len(encoder)))]
    search = CTCBeamSearcher(BLANK, vocabulary, **options)
    return {i: search(x[None], torch.ones(1))[0][0].text for i, x in posteriors.items()}
