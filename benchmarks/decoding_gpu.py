"""CTC beam search on a GPU: ``python -m benchmarks.decoding_gpu [--batch 64] [--beam 16]``.

Prints milliseconds of wall time for an utterance of 400 frames, everything from the posteriors on the GPU to the texts
included (the least of several repeats, the sides in turn), with the word error rate on the same posteriors and the
ratio to the first side. torchaudio's ``cuda_ctc_decoder`` knows no language model: it is the measure without and with.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.decoding import Decode
from benchmarks.decoding_data import Task, prepare
from hw_asr.decoders import BeamSearch


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


def show(title: str, task: Task, sides: "dict[str, Decode | None]", repeats: int) -> None:
    """Time the sides in turn; each ends with its texts on the CPU, so nothing is left running."""
    decoders = {name: decode for name, decode in sides.items() if decode is not None}
    texts = {name: decode() for name, decode in decoders.items()}  # compiles and warms up, too
    best = dict.fromkeys(decoders, float("inf"))
    for _ in range(repeats):
        for name, decode in decoders.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            decode()
            torch.cuda.synchronize()
            best[name] = min(best[name], 1e3 * (time.perf_counter() - start) / len(task.texts))
    first = next(iter(best.values()))
    print(f"\n### {title}\n\n| decoder | ms | ratio | WER |\n|---|---|---|---|")
    for name, milliseconds in best.items():
        print(
            f"| {name} | {milliseconds:.3f} | {milliseconds / first:.1f}x | {task.wer(texts[name]):.1f} |", flush=True
        )


def repeated(task: Task, batch: int) -> Task:
    """The utterances over and over until the batch is full, on the GPU."""
    rows = torch.arange(batch) % len(task.texts)
    log_probs, lengths = task.log_probs[rows].cuda(), task.lengths[rows].cuda()
    texts = [task.texts[row] for row in rows.tolist()]
    return Task(task.encoder, task.token_lm, task.word_lm, task.lexicon, log_probs, lengths, texts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=16, help="different ones; repeated to fill the batch")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--beam", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU was found: there is nothing to measure here", file=sys.stderr)
        return 2
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, B = {arguments.batch}, beam {arguments.beam}")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        for name, task in prepare(Path(folder), arguments.utterances).items():
            task = repeated(task, arguments.batch)
            K, lm = arguments.beam, {"lm": task.token_lm, "lm_weight": 0.5}
            sides = {
                "ours, fused, token 3-gram": ours(task, K, engine="fused", **lm),
                "ours, fused, token 3-gram, blank_skip 0.99": ours(task, K, engine="fused", blank_skip=0.99, **lm),
                "ours, fused, no language model": ours(task, K, engine="fused"),
                "ours, tensors, token 3-gram": ours(task, K, engine="tensor", **lm),
                "cuda_ctc_decoder, no skipping": torchaudio_search(task, K, 1.0),
                "cuda_ctc_decoder, skipping 0.95 (its default)": torchaudio_search(task, K, 0.95),
            }
            show(f"{name}, V = {len(task.encoder)}, T = 400", task, sides, arguments.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
