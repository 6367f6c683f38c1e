"""A training step of FastSpeech2 (4 + 6 blocks of width 256, post-net) on one CPU core, beside a plain one.

    python -m benchmarks.fastspeech2_step [--repeats 2] [--batch 4]

Ours is `FastSpeechTrainer.train_step` with the model, losses and optimizer of `configs/ljspeech/fastspeech2.json`,
attention without dropout as in the peer, in float32 and, where the processor computes in it, in bfloat16. The peer is
our own plain writing of ming024's FastSpeech2, which is no package: blocks with the layer norm behind each sum,
queries, keys and values by three layers, hidden states expanded phone by phone in Python, pitch and energy of phones in
256 steps, a post-net of five convolutions with batch norm, L1 and squared losses, `torch.optim.Adam`, and clipping.
Both are given the same batch, of about the mean length of LJSpeech. Processor time of one thread, sides in turn, the
least of several steps.
"""

import itertools

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import stepping
from benchmarks.measuring import compare, parser, write

CONFIG = "configs/ljspeech/fastspeech2.json"
WIDTH, N_MELS, N_BINS, MAX_FRAMES = 256, 80, 256, 1000
GOALS = {"fp32 : fp32": 1.3, "bf16 : bf16": 1.1, "fp32 : bf16": 2.0}


def make_batch(n_batch, n_tokens):
    """Utterances of 5.7 to 7.2 seconds, 12 phones a second, as many frames a phone as fit."""
    generator = torch.Generator().manual_seed(0)
    length = torch.linspace(7.2, 5.7, n_batch).mul(22050 / 256).long()
    tokens_length = length // 7
    durations = torch.zeros(n_batch, int(tokens_length.max()), dtype=torch.int64)
    for row, n_frames, n_phones in zip(durations, length.tolist(), tokens_length.tolist(), strict=True):
        row[:n_phones] = n_frames // n_phones
        row[: n_frames % n_phones] += 1
    n_frames = int(length.max())
    return {
        "tokens": torch.randint(1, n_tokens, durations.shape, generator=generator) * (durations > 0),
        "tokens_length": tokens_length,
        "durations": durations,
        "spectrogram": torch.randn(n_batch, N_MELS, n_frames, generator=generator) - 5,
        "spectrogram_length": length,
        "pitch": torch.rand(n_batch, n_frames, generator=generator) * 200 + 100,
        "energy": torch.rand(n_batch, n_frames, generator=generator) * 50,
        "utterance_id": [f"u{i}" for i in range(n_batch)],
        "text": [""] * n_batch,
    }


class Block(nn.Module):
    """Attention and convolutions, each with a residual sum, a layer norm behind it and the padding filled."""

    def __init__(self, n_heads=2, hidden=1024, dropout=0.2):
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.conv1, self.conv2 = nn.Conv1d(WIDTH, hidden, 9, padding=4), nn.Conv1d(hidden, WIDTH, 1)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x, padding):
        n_batch, n_frames, _ = x.shape
        query, key, value = (
            layer(x).view(n_batch, n_frames, self.n_heads, -1).permute(2, 0, 1, 3).flatten(0, 1)
            for layer in (self.query, self.key, self.value)
        )
        scores = torch.bmm(query, key.transpose(1, 2)) / (WIDTH / self.n_heads) ** 0.5
        hidden = padding[:, None].expand(-1, n_frames, -1).repeat(self.n_heads, 1, 1)
        y = torch.bmm(scores.masked_fill(hidden, -torch.inf).softmax(2), value)
        y = y.view(self.n_heads, n_batch, n_frames, -1).permute(1, 2, 0, 3).flatten(2)
        x = self.norm1(F.dropout(self.out(y), self.dropout, self.training) + x).masked_fill(padding[..., None], 0)
        y = self.conv2(F.relu(self.conv1(x.transpose(1, 2)))).transpose(1, 2)
        return self.norm2(F.dropout(y, self.dropout, self.training) + x).masked_fill(padding[..., None], 0)


class Predictor(nn.Module):
    """Two convolutions with layer norms and a linear layer."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.out = nn.Linear(WIDTH, 1)

    def forward(self, x, padding):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.dropout(norm(F.relu(conv(x.transpose(1, 2)).transpose(1, 2))), 0.5, self.training)
        return self.out(x).squeeze(-1).masked_fill(padding, 0.0)


class PlainFastSpeech2(nn.Module):
    """The model of ming024, plainly written."""

    def __init__(self, n_tokens):
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, WIDTH, padding_idx=0)
        angles = torch.arange(MAX_FRAMES)[:, None] / 10000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
        self.register_buffer("positions", torch.stack([angles.sin(), angles.cos()], -1).flatten(1))
        self.encoder, self.decoder = (nn.ModuleList(Block() for _ in range(n)) for n in (4, 6))
        self.durations, self.pitch, self.energy = Predictor(), Predictor(), Predictor()
        self.tables = nn.ModuleList(nn.Embedding(N_BINS, WIDTH) for _ in range(2))
        self.register_buffer("bins", torch.linspace(-3, 3, N_BINS - 1))
        self.out = nn.Linear(WIDTH, N_MELS)
        widths = [N_MELS, *[512] * 4, N_MELS]
        self.postnet = nn.ModuleList(
            nn.Sequential(nn.Conv1d(a, b, 5, padding=2), nn.BatchNorm1d(b)) for a, b in itertools.pairwise(widths)
        )

    def forward(self, batch):
        tokens, durations, n_frames = batch["tokens"], batch["durations"], batch["spectrogram"].shape[-1]
        padding = torch.arange(tokens.shape[1]) >= batch["tokens_length"][:, None]
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        for block in self.encoder:
            x = block(x, padding)
        predicted = [self.durations(x, padding)]
        for predictor, table, name in zip((self.pitch, self.energy), self.tables, ("pitch", "energy"), strict=True):
            predicted.append(predictor(x, padding))
            x = x + table(torch.bucketize(batch[f"{name}_of_phones"], self.bins))
        x = nn.utils.rnn.pad_sequence(
            [
                torch.cat([vector.expand(max(int(count), 0), -1) for vector, count in zip(*pair, strict=True)])
                for pair in zip(x, durations, strict=True)
            ],
            batch_first=True,
        )
        padding = torch.arange(n_frames) >= batch["spectrogram_length"][:, None]
        x = x + self.positions[:n_frames]
        for block in self.decoder:
            x = block(x, padding)
        mel = self.out(x)
        y = mel.transpose(1, 2)
        for i, layer in enumerate(self.postnet):
            y = F.dropout(layer(y) if i == 4 else layer(y).tanh(), 0.5, self.training)
        return mel, mel + y.transpose(1, 2), predicted

    def loss(self, batch):
        mel, refined, (durations, pitch, energy) = self(batch)
        tokens = torch.arange(durations.shape[1]) < batch["tokens_length"][:, None]
        frames = torch.arange(mel.shape[1]) < batch["spectrogram_length"][:, None]
        target = batch["spectrogram"].transpose(1, 2)[frames]
        loss = F.l1_loss(mel[frames], target) + F.l1_loss(refined[frames], target)
        loss = loss + F.mse_loss(durations[tokens], (batch["durations"][tokens] + 1).float().log())
        for name, values in (("pitch", pitch), ("energy", energy)):
            loss = loss + F.mse_loss(values[tokens], batch[f"{name}_of_phones"][tokens])
        return loss


def main():
    command = parser(__doc__, repeats=2)
    command.add_argument("--batch", type=int, default=4, help="utterances")
    arguments = command.parse_args()
    changes = ["data.*.datasets.0.args.voices=['en-us']", "model.args.attention_dropout=0.0"]
    trainers = {
        amp: stepping.trainer_of("configs/fastspeech2.json", CONFIG, amp, *changes) for amp in stepping.precisions()
    }
    n_tokens = trainers["off"].model.encoder.embedding.num_embeddings
    batch = make_batch(arguments.batch, n_tokens)
    torch.manual_seed(0)
    peer = PlainFastSpeech2(n_tokens).train()
    optimizer = torch.optim.Adam(peer.parameters(), lr=1e-3, betas=(0.9, 0.98), eps=1e-9)
    # The peer's data set averages pitch and energy over phones before training.
    of_phones = {f"{name}_of_phones": torch.randn(batch["tokens"].shape) for name in ("pitch", "energy")}
    theirs = {**batch, **of_phones}
    steps = stepping.sides(
        trainers, batch, lambda amp: stepping.plain_step(peer, optimizer, lambda: peer.loss(theirs), 1.0, amp)
    )
    work = f"FastSpeech2 step, {arguments.batch} x 5.7 to 7.2 s"
    label, models = "ming024's FastSpeech2, our writing", (peer, trainers["off"].model)
    rows = stepping.rows(work, label, compare(steps, arguments.repeats), models, GOALS)
    write(rows, "fastspeech2_step", arguments.output)


if __name__ == "__main__":
    main()
