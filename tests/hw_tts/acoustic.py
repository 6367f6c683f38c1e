"""Batches and small acoustic models, for the tests of FastSpeech and FastSpeech2."""

import torch

from hw_tts.losses.acoustic import DurationLoss, EnergyLoss, PitchLoss, SpectrogramLoss
from hw_tts.models.fastspeech import FastSpeech
from hw_tts.models.fastspeech2 import FastSpeech2

SIZES = {"n_mels": 6, "n_tokens": 9, "n_encoder_layers": 1, "n_decoder_layers": 1, "width": 8, "ff_width": 12}
SIZES |= {"predictor_width": 10, "dropout": 0.0, "attention_dropout": 0.0, "predictor_dropout": 0.0}
STATISTICS = {"pitch_mean": 180.0, "pitch_std": 50.0, "pitch_min": 70.0, "pitch_max": 400.0}
STATISTICS |= {"energy_mean": 12.0, "energy_std": 6.0, "energy_min": 0.1, "energy_max": 60.0}

# Tokens' durations of three utterances; some last no frame at all, as in the alignments of LJSpeech.
DURATIONS = ([3, 0, 2, 5, 0], [1], [0, 4, 4])


def fastspeech(seed=0, **changes):
    torch.manual_seed(seed)
    return FastSpeech(**{**SIZES, **changes})


def fastspeech2(seed=0, **changes):
    torch.manual_seed(seed)
    network = FastSpeech2(**{**SIZES, **changes})
    network.set_statistics(STATISTICS)
    return network


def make_batch(durations=DURATIONS, n_mels=6, n_tokens=9, seed=0, extra=0):
    """Utterances with given durations; all padding is garbage. ``extra`` widens it, tokens and frames alike."""
    generator = torch.Generator().manual_seed(seed)
    n, L = len(durations), max(map(len, durations)) + extra
    frames = [sum(d) for d in durations]
    T = max(frames) + extra
    batch = {
        "tokens": torch.full((n, L), n_tokens - 1),
        "tokens_length": torch.tensor([len(d) for d in durations]),
        "spectrogram": torch.full((n, n_mels, T), 99.0),
        "spectrogram_length": torch.tensor(frames),
        "durations": torch.zeros(n, L, dtype=torch.int64),
        "pitch": torch.full((n, T), 500.0),
        "energy": torch.full((n, T), 77.0),
        "speaker_id": torch.arange(n) % 2,
        "text": ["a"] * n,
    }
    for i, d in enumerate(durations):
        t = torch.arange(frames[i])
        batch["tokens"][i, : len(d)] = torch.randint(1, n_tokens, (len(d),), generator=generator)
        batch["durations"][i, : len(d)] = torch.tensor(d)
        batch["spectrogram"][i, :, : frames[i]] = torch.sin(0.3 * t + torch.arange(n_mels)[:, None] + i) * 2 - 4
        batch["pitch"][i, : frames[i]] = 150 + 40 * torch.sin(0.5 * t + i)
        batch["energy"][i, : frames[i]] = 12 + 8 * torch.cos(0.4 * t + i)
    return batch


def only(batch, i):
    """The i-th utterance of a batch, without padding."""
    n_tokens, n_frames = int(batch["tokens_length"][i]), int(batch["spectrogram_length"][i])
    ends = {"tokens": n_tokens, "durations": n_tokens, "spectrogram": n_frames, "pitch": n_frames, "energy": n_frames}
    alone = {key: value[i : i + 1] for key, value in batch.items()}
    return {key: value[..., : ends[key]] if key in ends else value for key, value in alone.items()}


def losses_of(network):
    """Every loss that fits the network, by the names of the configs."""
    domain = getattr(network, "duration_domain", "log")
    losses = {"mel": SpectrogramLoss("mse"), "duration": DurationLoss("mse", domain)}
    if network.decoder.postnet is not None:
        losses["mel_refined"] = SpectrogramLoss("l1", "refined")
    if isinstance(network, FastSpeech2):
        losses |= {"pitch": PitchLoss(), "energy": EnergyLoss()}
    return losses


def values(network, batch, losses):
    """The losses of a batch, as scalars."""
    outputs = {**batch, **network(**batch)}
    means = {name: loss(**outputs) for name, loss in losses.items()}
    return {name: mean.total / mean.count for name, mean in means.items()}


def untouched(network, batch, losses):
    """Parameters that no gradient reaches."""
    network.train()
    sum(values(network, batch, losses).values()).backward()
    return [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def overfit(network, batch, losses, goal, steps=250, lr=1e-2):
    """Train on one batch until each loss is below its goal, or to the last step; the final losses."""
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, pct_start=0.1)
    for _ in range(steps):
        now = values(network, batch, losses)
        if all(now[name] < goal for name in losses):
            break
        optimizer.zero_grad()
        sum(now.values()).backward()
        optimizer.step()
        schedule.step()
    return {name: value.item() for name, value in now.items()}


def closer_look(together, alone, i, lengths):
    """Assert that each output of an utterance in a batch equals that of the utterance alone."""
    assert together.keys() == alone.keys()
    for key, value in alone.items():
        if value.dim() == 1:
            assert torch.equal(together[key][i : i + 1], value), key
            continue
        n = value.shape[-1]
        assert n in lengths, key
        torch.testing.assert_close(
            together[key][i, ..., :n], value[0], atol=2e-5, rtol=1e-5, msg=lambda m, k=key: k + m
        )
        assert not together[key][i, ..., n:].any() or key.endswith("_target"), key
