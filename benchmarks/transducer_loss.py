"""The loss of transducers against torchaudio's on the whole batch's lattice: ``python -m benchmarks.transducer_loss``.

Both compute loss and gradients of a batch whose utterances are of different lengths. Prints the processor seconds of
each on one thread (the least of several repeats, the two in turn), their ratio, and the megabytes that a new process
grows by at its peak, on Linux.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchaudio.functional import rnnt_loss

from benchmarks.decoding_memory import growth, in_new_process
from hw_asr.losses.transducer import TransducerLoss

# Utterances, frames and tokens of the longest, vocabulary, width of the joiner.
SIZES = {
    "letters, embedded corpus": (32, 80, 40, 29, 128),
    "letters, LibriSpeech": (8, 400, 200, 29, 256),
    "128 pieces, LibriSpeech": (8, 400, 80, 128, 320),
    "1000 pieces, LibriSpeech": (4, 400, 60, 1000, 320),
}
REPEATS = 2
Loss = Callable[[dict[str, Tensor]], Tensor]


def batch(name: str) -> dict[str, Tensor]:
    """Random states; utterances have 0.4 to 1 of the longest one's frames and tokens."""
    size, n_frames, n_tokens, vocabulary, width = SIZES[name]
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "encoder_states": (size, n_frames, width),
        "predictor_states": (size, n_tokens + 1, width),
        "joiner_weight": (vocabulary, width),
        "joiner_bias": (vocabulary,),
    }
    made = {key: (0.1 * torch.randn(shape, generator=generator)).requires_grad_() for key, shape in shapes.items()}
    share = torch.linspace(0.4, 1.0, size)
    lengths = {"log_probs_length": (share * n_frames).long(), "tokens_length": (share * n_tokens).long()}
    return {**made, **lengths, "tokens": torch.randint(1, vocabulary, (size, n_tokens), generator=generator)}


def ours(b: dict[str, Tensor]) -> Tensor:
    return TransducerLoss(normalize_by_length=False)(**b, utterance_id=[""] * len(b["tokens"])).total


def whole(b: dict[str, Tensor]) -> Tensor:
    hidden = torch.tanh(b["encoder_states"][:, :, None] + b["predictor_states"][:, None])
    logits = F.linear(hidden, b["joiner_weight"], b["joiner_bias"])
    lengths = b["log_probs_length"].int(), b["tokens_length"].int()
    return rnnt_loss(logits, b["tokens"].int(), *lengths, blank=0, reduction="sum")


LOSSES: dict[str, Loss] = {"ours": ours, "whole": whole}


def step(loss: Loss, b: dict[str, Tensor]) -> float:
    value = loss(b)
    value.backward()
    return float(value.detach())


def memory(kind: str, name: str) -> tuple[float, float]:
    torch.set_num_threads(1)
    step(LOSSES[kind], batch("letters, embedded corpus"))  # what the first call loads
    b = batch(name)
    return growth(lambda: step(LOSSES[kind], b))


def main() -> None:
    torch.set_num_threads(1)
    print("| lattice | B x T x (L + 1) x V | ours, s | whole batch, s | ratio | ours, MB | whole batch, MB |")
    print("|---|---|---|---|---|---|---|")
    for name, (size, n_frames, n_tokens, vocabulary, _) in SIZES.items():
        best = dict.fromkeys(LOSSES, float("inf"))
        values = {}
        for _ in range(REPEATS):
            for kind, loss in LOSSES.items():
                b = batch(name)
                start = time.process_time()
                values[kind] = step(loss, b)
                best[kind] = min(best[kind], time.process_time() - start)
        assert abs(values["ours"] / values["whole"] - 1) < 1e-4, values
        peaks = {kind: in_new_process(memory, kind, name)[0] for kind in LOSSES}
        cells = f"{size} x {n_frames} x {n_tokens + 1} x {vocabulary}"
        ratio = best["whole"] / best["ours"]
        print(
            f"| {name} | {cells} | {best['ours']:.2f} | {best['whole']:.2f} | {ratio:.1f} | "
            f"{peaks['ours']:.0f} | {peaks['whole']:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
