"""The loss of transducers against torchaudio's on the whole batch's lattice: ``python -m benchmarks.transducer_loss``.

Both compute loss and gradients of a batch whose utterances are of different lengths: processor time of each on one
thread (the least of several repeats, the two in turn), and the megabytes that a new process grows by at its peak, on
Linux.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchaudio.functional import rnnt_loss

from benchmarks import measuring
from benchmarks.decoding_memory import growth, in_new_process
from hw_asr.losses.transducer import TransducerLoss

# Utterances, frames and tokens of the longest, vocabulary, width of the joiner.
SIZES = {
    "letters, embedded corpus": (32, 80, 40, 29, 128),
    "letters, LibriSpeech": (8, 400, 200, 29, 256),
    "128 pieces, LibriSpeech": (8, 400, 80, 128, 320),
    "1000 pieces, LibriSpeech": (4, 400, 60, 1000, 320),
}
PEER = "torchaudio's `rnnt_loss` on the whole batch"
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
    for tensor in b.values():
        tensor.grad = None
    value = loss(b)
    value.backward()
    return float(value.detach())


def memory(kind: str, name: str) -> tuple[float, float]:
    torch.set_num_threads(1)
    step(LOSSES[kind], batch("letters, embedded corpus"))  # what the first call loads
    b = batch(name)
    return growth(lambda: step(LOSSES[kind], b))


def main() -> None:
    arguments = measuring.parser(__doc__, repeats=2).parse_args()
    rows = []
    for name, (size, n_frames, n_tokens, vocabulary, _) in SIZES.items():
        b = batch(name)
        values: dict[str, float] = {}

        def work(kind: str, b: dict[str, Tensor] = b, values: dict[str, float] = values) -> Callable[[], None]:
            return lambda: values.update({kind: step(LOSSES[kind], b)})

        seconds = measuring.compare({kind: work(kind) for kind in LOSSES}, arguments.repeats)
        assert abs(values["ours"] / values["whole"] - 1) < 1e-4, values
        peaks = {kind: in_new_process(memory, kind, name)[0] for kind in LOSSES}
        lattice = f"transducer loss, {name}, {size} x {n_frames} x {n_tokens + 1} x {vocabulary}"
        rows.append(measuring.against(lattice, PEER, "process time", seconds["whole"], seconds["ours"]))
        note = f"{peaks['whole']:.0f} : {peaks['ours']:.0f} MB"
        rows.append(measuring.Row(lattice, PEER, "peak memory", peaks["whole"] / max(peaks["ours"], 1.0), note=note))
    measuring.write(rows, "transducer_loss", arguments.output)


if __name__ == "__main__":
    main()
