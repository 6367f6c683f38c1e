"""A training step of a Conformer-CTC of 30 million parameters on one CPU core, beside peers.

    python -m benchmarks.conformer_step [--repeats 3] [--only torchaudio-256 torchaudio-64 speechbrain]

Ours is `CTCTrainer.train_step` with the model, losses and optimizer of `configs/librispeech/conformer_30m.json`
(relative positions, InterCTC at two layers), in float32 and, where the processor computes in it, in bfloat16. No whole
CTC recipe is published on `torchaudio.models.Conformer`: that side is our own plain writing around it, with the usual
two convolutions of 256 or of 64 channels before, InterCTC, `torch.optim.AdamW` and clipping. SpeechBrain's side is its
own modules with the sizes of its Conformer-CTC recipe (28.8 million, relative positions, no InterCTC); without the
package it is skipped. Data and features are no part of it: each side is given the same spectrograms, 8 x 12 s.

One row compares an audio second of a random batch, 23 % padding, with one of a batch such as our sampler makes, 2 %.
Processor time of one thread, the sides in turn, the least of several steps.
"""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import stepping
from benchmarks.measuring import Row, compare, missing, parser, write

CONFIG = "configs/librispeech/conformer_30m.json"
N_MELS, N_TOKENS = 80, 29
EQUAL = [12.0] * 8
# Durations such as train-clean-100 has, with the padding that random batches of eight of them have: 22 to 23 %.
RANDOM = [4.6, 9.5, 12.0, 13.3, 14.1, 14.8, 15.5, 16.3]
BUCKETED = [12.5, 12.4, 12.4, 12.3, 12.3, 12.2, 12.1, 12.0]
WORK = "Conformer 30M step, 8 x 12 s"
GOALS = {
    ("torchaudio-256", "fp32 : bf16", "equal"): 2.5,
    ("torchaudio-256", "fp32 : bf16", "padded"): 3.0,
    ("speechbrain", "fp32 : fp32", "equal"): 1.3,
    ("speechbrain", "bf16 : bf16", "equal"): 1.3,
}
# Precisions of peer and ours, and the batches.
PAIRS = [("off", "off", "equal"), ("bf16", "bf16", "equal"), ("off", "bf16", "equal"), ("off", "bf16", "padded")]


def make_batch(seconds):
    frames = torch.tensor([round(stepping.FRAMES_A_SECOND * one) for one in seconds])
    return stepping.recognition_batch(frames, N_MELS, N_TOKENS)


def trainer_of(amp):
    changes = [f"features.args.n_mels={N_MELS}", "model.args.stochastic_depth=0.0"]
    return stepping.trainer_of("configs/conformer.json", CONFIG, amp, *changes)


class TorchaudioCTC(nn.Module):
    """Two strided convolutions, `torchaudio.models.Conformer`, a head, InterCTC at layers 6 and 12."""

    def __init__(self, channels):
        super().__init__()
        from torchaudio.models import Conformer

        self.front = nn.Sequential(
            nn.Conv2d(1, channels, 3, 2, 1), nn.ReLU(), nn.Conv2d(channels, channels, 3, 2, 1), nn.ReLU()
        )
        self.projection = nn.Linear(channels * N_MELS // 4, 256)
        self.encoder = Conformer(256, 4, 1024, 18, 31, dropout=0.1)
        self.head = nn.Linear(256, N_TOKENS)

    def forward(self, spectrogram, spectrogram_length):
        x = self.projection(self.front(spectrogram[:, None]).flatten(1, 2).transpose(1, 2)).transpose(0, 1)
        length = (spectrogram_length + 3) // 4
        mask = torch.arange(len(x)) >= length[:, None]
        taps = []
        for depth, layer in enumerate(self.encoder.conformer_layers, start=1):
            x = layer(x, mask)
            if depth in (6, 12, 18):
                taps.append(self.head(x).float().log_softmax(-1))
        return taps, length

    def loss(self, batch):
        taps, length = self(batch["spectrogram"], batch["spectrogram_length"])
        early, middle, last = (
            F.ctc_loss(tap, batch["tokens"], length, batch["tokens_length"], zero_infinity=True) for tap in taps
        )
        return 0.34 * last + 0.66 * (early + middle) / 2


class SpeechBrainCTC(nn.Module):
    """What SpeechBrain's recipe builds from its hyperparameters: front end, encoder, head."""

    def __init__(self):
        super().__init__()
        from benchmarks.speechbrain_ctc import ConformerNetwork

        self.network = ConformerNetwork(N_MELS, 256, n_layers=18)
        self.head = nn.Linear(256, N_TOKENS)

    def loss(self, batch):
        length = batch["spectrogram_length"]
        relative = length / length.max()
        x = self.network(batch["spectrogram"].transpose(1, 2), relative)
        log_probs = self.head(x).float().log_softmax(-1).transpose(0, 1)
        frames = (relative * len(log_probs)).round().long()
        return F.ctc_loss(log_probs, batch["tokens"], frames, batch["tokens_length"], zero_infinity=True)


class PlainSteps:
    """Steps of a peer as plain programs take them."""

    def __init__(self, model):
        self.model = model.train()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)

    def step(self, batch, amp):
        stepping.plain_step(self.model, self.optimizer, lambda: self.model.loss(batch), 5.0, amp)


PEERS = {
    "torchaudio-256": ("torchaudio's Conformer, Conv2d 256", lambda: TorchaudioCTC(256)),
    "torchaudio-64": ("torchaudio's Conformer, Conv2d 64", lambda: TorchaudioCTC(64)),
    "speechbrain": ("SpeechBrain 1.1.2", SpeechBrainCTC),
}


def sides_of(peers, trainers, make):
    """Every step that is timed, by side, precision and batch; ``make`` makes the batches."""
    equal, random, bucketed = make(EQUAL), make(RANDOM), make(BUCKETED)
    sides = {}
    for amp, trainer in trainers.items():
        for name, peer in peers.items():
            sides[name, amp, "equal"] = lambda peer=peer, amp=amp: peer.step(equal, amp)
        sides["ours", amp, "equal"] = lambda trainer=trainer: stepping.our_step(trainer, equal)
    if "torchaudio-256" in peers and "bf16" in trainers:
        sides["torchaudio-256", "off", "padded"] = lambda: peers["torchaudio-256"].step(random, "off")
        sides["ours", "bf16", "padded"] = lambda: stepping.our_step(trainers["bf16"], bucketed)
    return sides


def rows_of(peers, seconds, millions):
    """The ratios of what was timed."""
    kinds = {"off": "fp32", "bf16": "bf16"}
    for name, label in peers.items():
        for theirs, own, batch in PAIRS:
            if (name, theirs, batch) not in seconds or ("ours", own, batch) not in seconds:
                continue
            a, b = seconds[name, theirs, batch], seconds["ours", own, batch]
            ratio, work = a / b, WORK
            if batch == "padded":
                ratio, work = a / sum(RANDOM) / (b / sum(BUCKETED)), f"{WORK}, random : bucketed, an audio second"
            kind = f"{kinds[theirs]} : {kinds[own]}"
            note = f"{a:.2f} s : {b:.2f} s a step; {millions[name]:.1f} M : {millions['ours']:.1f} M parameters"
            yield Row(work, label, kind, ratio, GOALS.get((name, kind, batch)), note)


def main():
    command = parser(__doc__, repeats=3)
    command.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS), help="these peers")
    arguments = command.parse_args()
    torch.set_num_threads(1)
    why = missing("speechbrain")
    names = [name for name in arguments.only if name != "speechbrain" or not why]
    trainers = {amp: trainer_of(amp) for amp in stepping.precisions()}
    torch.manual_seed(0)
    peers = {name: PlainSteps(PEERS[name][1]()) for name in names}
    millions = {name: sum(p.numel() for p in peer.model.parameters()) / 1e6 for name, peer in peers.items()}
    millions["ours"] = sum(p.numel() for p in trainers["off"].model.parameters()) / 1e6
    for step in sides_of(peers, trainers, lambda seconds: make_batch([one / 12 for one in seconds])).values():
        step()  # warms up at a twelfth of the work
    seconds = compare(sides_of(peers, trainers, make_batch), arguments.repeats, warm_up=False)
    rows = list(rows_of({name: PEERS[name][0] for name in names}, seconds, millions))
    if "speechbrain" in arguments.only and why:
        goal = GOALS["speechbrain", "fp32 : fp32", "equal"]
        rows.append(Row(WORK, PEERS["speechbrain"][0], "fp32 : fp32", None, goal, why))
    write(rows, "conformer_step", arguments.output)


if __name__ == "__main__":
    main()
