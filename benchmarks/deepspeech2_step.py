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

from benchmarks import stepping
from benchmarks.measuring import compare, parser, write

CONFIG = "configs/librispeech/ds2.json"
N_BINS, N_TOKENS = 161, 29
GOALS = {"fp32 : fp32": 1.9, "fp32 : bf16": 3.0}


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


def loss_of(peer, batch):
    log_probs, length = peer(batch["spectrogram"], batch["spectrogram_length"])
    return F.ctc_loss(log_probs, batch["tokens"], length, batch["tokens_length"], zero_infinity=True)


def main():
    command = parser(__doc__, repeats=2)
    command.add_argument("--seconds", type=float, default=3.0, help="of the longest utterance")
    arguments = command.parse_args()
    changes = [f"features.args.n_mels={N_BINS}", "features.args.n_fft=2048", "model.args.dropout=0.0"]
    trainers = {amp: stepping.trainer_of("configs/ds2.json", CONFIG, amp, *changes) for amp in stepping.precisions()}
    # The shortest is 5 % shorter than the longest.
    frames = (torch.linspace(1.0, 0.95, 8) * arguments.seconds * stepping.FRAMES_A_SECOND).round().long()
    batch = stepping.recognition_batch(frames, N_BINS, N_TOKENS)
    torch.manual_seed(0)
    peer = PackedDeepSpeech2().train()
    optimizer = torch.optim.AdamW(peer.parameters(), lr=5e-4, weight_decay=0.01)
    steps = stepping.sides(
        trainers, batch, lambda amp: stepping.plain_step(peer, optimizer, lambda: loss_of(peer, batch), 5.0, amp)
    )
    work = f"DeepSpeech2 5 x 800 step, 8 x {arguments.seconds:g} s"
    label, models = "deepspeech.pytorch's packed model, our writing", (peer, trainers["off"].model)
    rows = stepping.rows(work, label, compare(steps, arguments.repeats), models, GOALS)
    write(rows, "deepspeech2_step", arguments.output)


if __name__ == "__main__":
    main()
