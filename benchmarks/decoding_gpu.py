"""CTC beam search on a GPU: ``python -m benchmarks.decoding_gpu [--batch 64] [--beam 16]``.

Milliseconds of wall time for an utterance of 400 frames, everything from the posteriors on the GPU to the texts
included (the least of several repeats, the sides in turn), with the word error rate on the same posteriors.
torchaudio's ``cuda_ctc_decoder`` knows no language model: it is the peer of searches without and with one.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import measuring
from benchmarks.decoding import Decode
from benchmarks.decoding_data import Task, prepare
from benchmarks.measuring import Row
from hw_asr.decoders import BeamSearch
from hw_base.profiling.clock import wait_for

GOAL_MS, GOAL_RATIO = 0.3, 2.0


def ours(task: Task, beam_size: int, **options: object) -> Decode:
    decoder = BeamSearch(task.encoder, beam_size, tokens_per_frame=10, **options)  # type: ignore[arg-type]
    return lambda: [found[0].text for found in decoder(task.log_probs, task.lengths)]


def torchaudio_search(task: Task, beam_size: int, blank_skip: float) -> "Decode | None":
    try:
        from torchaudio.models.decoder import cuda_ctc_decoder

        vocabulary = [str(i) for i in range(len(task.encoder))]
        decoder = cuda_ctc_decoder(vocabulary, beam_size=beam_size, blank_skip_threshold=blank_skip)
    except (ImportError, AttributeError) as error:
        print(f"cuda_ctc_decoder is left out: {error}")
        return None
    lengths = task.lengths.to(torch.int32)
    return lambda: [task.encoder.decode(found[0].tokens) for found in decoder(task.log_probs, lengths)]


def repeated(task: Task, batch: int, device: torch.device) -> Task:
    """The utterances over and over until the batch is full, on the device."""
    rows = torch.arange(batch) % len(task.texts)
    log_probs, lengths = task.log_probs[rows].to(device), task.lengths[rows].to(device)
    texts = [task.texts[row] for row in rows.tolist()]
    return Task(task.encoder, task.token_lm, task.word_lm, task.lexicon, log_probs, lengths, texts)


def milliseconds(task: Task, sides: dict[str, Decode], repeats: int) -> dict[str, float]:
    """An utterance, by side; each ends with its texts on the CPU, so nothing is left running."""
    wait_for(task.log_probs.device)
    best = measuring.compare(sides, repeats, time.perf_counter)
    return {name: 1e3 * seconds / len(task.texts) for name, seconds in best.items()}


def rows(
    device: torch.device, utterances: int = 16, batch: int = 64, beam: int = 16, repeats: int = 20, real: bool = True
) -> list[Row]:
    """Every search of both vocabularies; on a CPU, where there are no kernels, the engine in tensors alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        tasks = prepare(Path(folder), utterances, real=real)
        return [
            row for name, task in tasks.items() for row in _rows(name, repeated(task, batch, device), beam, repeats)
        ]


def _rows(name: str, task: Task, beam: int, repeats: int) -> list[Row]:
    weights = {"lm": task.token_lm, "lm_weight": 0.5}
    found: dict[str, Decode | None] = {"tensors, token 3-gram": ours(task, beam, engine="tensor", **weights)}
    if task.log_probs.is_cuda:
        found |= {
            "fused, token 3-gram": ours(task, beam, engine="fused", **weights),
            "fused, token 3-gram, blank_skip 0.99": ours(task, beam, engine="fused", blank_skip=0.99, **weights),
            "fused, no language model": ours(task, beam, engine="fused"),
            "cuda_ctc_decoder, no skipping": torchaudio_search(task, beam, 1.0),
            "cuda_ctc_decoder, skipping 0.95 (its default)": torchaudio_search(task, beam, 0.95),
        }
    sides = {side: decode for side, decode in found.items() if decode is not None}
    wer = {side: task.wer(decode()) for side, decode in sides.items()}
    best = milliseconds(task, sides, repeats)
    peer = min((ms for side, ms in best.items() if side.startswith("cuda_ctc")), default=None)
    table = []
    for side, ms in best.items():
        work = f"decoding, {name}, V = {len(task.encoder)}, B = {len(task.texts)}, beam {beam}: {side}"
        note = f"{ms:.3f} ms an utterance, WER {wer[side]:.1f}"
        table.append(Row(work, f"{GOAL_MS} ms", "wall", GOAL_MS / ms, 1.0 if side.startswith("fused") else None, note))
        if peer is not None and side.startswith("fused"):
            table.append(Row(work, "the faster cuda_ctc_decoder", "wall", peer / ms, GOAL_RATIO, f"{peer:.3f} ms"))
    return table


def main() -> int:
    parser = measuring.parser(__doc__, repeats=20)
    parser.add_argument("--utterances", type=int, default=16, help="different ones; repeated to fill the batch")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--beam", type=int, default=16)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU was found: there is nothing to measure here", file=sys.stderr)
        return 2
    table = rows(torch.device("cuda"), arguments.utterances, arguments.batch, arguments.beam, arguments.repeats)
    measuring.write(table, "decoding_gpu", arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
