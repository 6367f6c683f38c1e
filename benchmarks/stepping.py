"""What benchmarks of training steps share: our trainer without data, batches, plain steps of a peer, rows of ratios."""

import torch
from torch import nn

from benchmarks.measuring import Row, has_bf16
from hw_base.config.read import read
from hw_base.config.resolve import resolve
from hw_base.runs.experiment import Experiment

FRAMES_A_SECOND = 100
# Precisions of peer and ours.
PAIRS = [("off", "off"), ("bf16", "bf16"), ("off", "bf16")]


def precisions():
    """Those that this processor computes in."""
    return ["off"] + ["bf16"] * has_bf16()


def recognition_batch(frames, n_bins, n_tokens):
    """Random spectrograms with these numbers of frames, (B,), and a token for every eight frames."""
    generator = torch.Generator().manual_seed(0)
    tokens_length = frames // 8
    return {
        "spectrogram": torch.randn(len(frames), n_bins, int(frames.max()), generator=generator),
        "spectrogram_length": frames,
        "tokens": torch.randint(1, n_tokens, (len(frames), int(tokens_length.max())), generator=generator),
        "tokens_length": tokens_length,
        "utterance_id": [f"u{i}" for i in range(len(frames))],
        "text": [None] * len(frames),
    }


def trainer_of(data_of, model_of, amp, *changes):
    """Our trainer of one config on the data of another, of which it takes a few sentences that no step sees."""
    big = read(model_of)
    config = {**read(data_of), **{key: big[key] for key in ("model", "losses", "optimizers")}}
    changes = [
        "data.train.datasets.0.args.n_utterances=8",
        "data.train.batch_size=8",
        "data.train.cache=none",
        "data.val.limit=1",
        "metrics={}",
        "writers=[]",
        "trainer.monitor=null",
        f"trainer.amp={amp}",
        *changes,
    ]
    return Experiment(resolve(config, changes), torch.device("cpu")).trainer(None)


def our_step(trainer, batch):
    """One update as in training, and the look at it."""
    trainer.train_step(dict(batch))
    trainer.guard.read()


def plain_step(model, optimizer, loss, clip_norm, amp):
    """One update as plain programs take it; `loss` makes the forward pass, in this precision."""
    with torch.autocast("cpu", torch.bfloat16, enabled=amp == "bf16"):
        value = loss()
    optimizer.zero_grad()
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()


def sides(trainers, batch, peer):
    """Steps of the peer, which is called with the precision, and of our trainers, by name."""
    theirs = {f"peer {amp}": lambda amp=amp: peer(amp) for amp in trainers}
    return theirs | {f"ours {amp}": lambda amp=amp: our_step(trainers[amp], batch) for amp in trainers}


def rows(work, peer, seconds, models, goals):
    """Ratios of the sides ``peer off``, ``ours bf16`` and so on.

    Args:
        work: what is done, with its size.
        peer: what it is compared with.
        seconds: of each side.
        models: the peer's and ours.
        goals: kind -> the least ratio that is wanted.
    """
    sizes = [sum(p.numel() for p in model.parameters()) / 1e6 for model in models]
    made = []
    for theirs, ours in PAIRS[: 3 if has_bf16() else 1]:
        a, b = seconds[f"peer {theirs}"], seconds[f"ours {ours}"]
        kind = f"{theirs} : {ours}".replace("off", "fp32")
        note = f"{a:.2f} s : {b:.2f} s a step; {sizes[0]:.1f} M : {sizes[1]:.1f} M parameters"
        made.append(Row(work, peer, kind, a / b, goals.get(kind), note))
    return made
