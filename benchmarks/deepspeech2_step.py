"""A training step of DeepSpeech2 (5 x 800 GRU) on one CPU core, beside a packed one.

    python -m benchmarks.deepspeech2_step [--repeats 2] [--seconds 3]

Ours is `CTCTrainer.train_step` with the model and optimizer of `configs/librispeech/ds2.json` at 161 bins and without
dropout, in float32 and, where the processor computes in it, in bfloat16. The peer is our own plain writing of the model
of SeanNaren's deepspeech.pytorch, which is no package: the same two convolutions, whose padding is filled with zeros
utterance by utterance after every layer, bidirectional GRUs over packed sequences whose directions are added, batch
norm over all frames before each but the first, a linear layer without bias; `torch.optim.AdamW`, and clipping.
Both are given the same eight spectrograms, bucketed as our sampler does. Processor time of one thread, sides in turn,
the least of several steps.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.measuring import Row, compare, has_bf16, parser, write
from hw_base.config.read import read
from hw_base.config.resolve import resolve
from hw_base.runs.experiment import Experiment

CONFIG = "configs/librispeech/ds2.json"
N_BINS, N_TOKENS, FRAMES_A_SECOND = 161, 29, 100
GOALS = {"fp32 : fp32": 1.9, "fp32 : bf16": 3.0}


def make_batch(seconds):
    """Eight utterances, the shortest 5 % shorter than the longest."""
    generator = torch.Generator().manual_seed(0)
    lengths = (torch.linspace(1.0, 0.95, 8) * seconds * FRAMES_A_SECOND).round().long()
    tokens_length = lengths // 8
    return {
        "spectrogram": torch.randn(8, N_BINS, int(lengths.max()), generator=generator),
        "spectrogram_length": lengths,
        "tokens": torch.randint(1, N_TOKENS, (8, int(tokens_length.max())), generator=generator),
        "tokens_length": tokens_length,
        "utterance_id": [f"u{i}" for i in range(8)],
        "text": [None] * 8,
    }


def trainer_of(amp):
    """Our trainer; of the data of a small config it takes a few sentences, which no step sees."""
    big = read(CONFIG)
    config = {**read("configs/ds2.json"), **{key: big[key] for key in ("model", "losses", "optimizers")}}
    changes = [
        "data.train.datasets.0.args.n_utterances=8",
        "data.train.batch_size=8",
        "data.val.limit=1",
        f"features.args.n_mels={N_BINS}",
        "features.args.n_fft=2048",
        "model.args.dropout=0.0",
        "metrics={}",
        "writers=[]",
        "trainer.monitor=null",
        f"trainer.amp={amp}",
    ]
    return Experiment(resolve(config, changes), torch.device("cpu")).trainer(None)


class PackedLayer(nn.Module):
    """Batch norm over all frames, padding included, and a packed bidirectional GRU whose directions are added."""

    def __init__(self, n_inputs, n_hidden, norm):
        super().__init__()
        self.norm = nn.BatchNorm1d(n_inputs) if norm else None
        self.rnn = nn.GRU(n_inputs, n_hidden, bidirectional=True)

    def forward(self, x, length):
        n_frames, n_batch = x.shape[:2]
        if self.norm is not None:
            x = self.norm(x.flatten(0, 1)).view(n_frames, n_batch, -1)
        x, _ = self.rnn(pack_padded_sequence(x, length, enforce_sorted=False))
        x, _ = pad_packed_sequence(x, total_length=n_frames)
        return x.view(n_frames, n_batch, 2, -1).sum(2)


class PackedDeepSpeech2(nn.Module):
    """The model of deepspeech.pytorch, plainly written."""

    def __init__(self, n_layers=5, n_hidden=800):
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(1, 32, (41, 11), (2, 2), (20, 5)),
                nn.BatchNorm2d(32),
                nn.Hardtanh(0, 20),
                nn.Conv2d(32, 32, (21, 11), (2, 1), (10, 5)),
                nn.BatchNorm2d(32),
                nn.Hardtanh(0, 20),
            ]
        )
        widths = [32 * 41, *[n_hidden] * (n_layers - 1)]
        self.rnns = nn.ModuleList(PackedLayer(width, n_hidden, i > 0) for i, width in enumerate(widths))
        self.norm = nn.BatchNorm1d(n_hidden)
        self.head = nn.Linear(n_hidden, N_TOKENS, bias=False)

    def forward(self, spectrogram, length):
        length = (length + 10 - 11) // 2 + 1
        x = spectrogram[:, None]
        for module in self.convs:
            x = module(x)
            mask = torch.zeros_like(x, dtype=torch.bool)
            for row, n_frames in zip(mask, length.tolist(), strict=True):
                row[..., n_frames:] = True
            x = x.masked_fill(mask, 0.0)
        x = x.flatten(1, 2).permute(2, 0, 1)
        for rnn in self.rnns:
            x = rnn(x, length)
        n_frames, n_batch = x.shape[:2]
        return self.head(self.norm(x.flatten(0, 1))).view(n_frames, n_batch, -1).float().log_softmax(-1), length


class PackedSteps:
    """Steps of the peer as plain programs take them."""

    def __init__(self):
        self.model = PackedDeepSpeech2().train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-4, weight_decay=0.01)

    def step(self, batch, amp):
        with torch.autocast("cpu", torch.bfloat16, enabled=amp == "bf16"):
            log_probs, length = self.model(batch["spectrogram"], batch["spectrogram_length"])
        loss = F.ctc_loss(log_probs, batch["tokens"], length, batch["tokens_length"], zero_infinity=True)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()


def our_step(trainer, batch):
    trainer.train_step(dict(batch))
    trainer.guard.read()


def main():
    command = parser(__doc__, repeats=2)
    command.add_argument("--seconds", type=float, default=3.0, help="of the longest utterance")
    arguments = command.parse_args()
    torch.manual_seed(0)
    peer = PackedSteps()
    trainers = {amp: trainer_of(amp) for amp in ["off"] + ["bf16"] * has_bf16()}
    batch = make_batch(arguments.seconds)
    sides = {f"peer {amp}": lambda amp=amp: peer.step(batch, amp) for amp in trainers}
    sides |= {f"ours {amp}": lambda amp=amp: our_step(trainers[amp], batch) for amp in trainers}
    seconds = compare(sides, arguments.repeats)
    sizes = [sum(p.numel() for p in model.parameters()) / 1e6 for model in (peer.model, trainers["off"].model)]
    rows = []
    for amp, our_amp in [("off", "off"), ("bf16", "bf16"), ("off", "bf16")][: 3 if has_bf16() else 1]:
        a, b = seconds[f"peer {amp}"], seconds[f"ours {our_amp}"]
        kind = f"{amp} : {our_amp}".replace("off", "fp32")
        note = f"{a:.2f} s : {b:.2f} s a step; {sizes[0]:.1f} M : {sizes[1]:.1f} M parameters"
        work = f"DeepSpeech2 5 x 800 step, 8 x {arguments.seconds:g} s"
        rows.append(Row(work, "deepspeech.pytorch's packed model, our writing", kind, a / b, GOALS.get(kind), note))
    write(rows, "deepspeech2_step", arguments.output)


if __name__ == "__main__":
    main()
