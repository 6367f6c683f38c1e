"""CTC decoding beside its peers, in one process on one thread: ``python -m benchmarks.decoding [--utterances 8]``.

Prints tables of milliseconds per utterance of 400 frames (the least process time of several repeats, the sides in turn)
with the word error rate on the same posteriors beside each, and every ratio; ``long`` joins ten utterances to 4000
frames. Two threads are measured in wall time and need two free cores: ``--parts threads`` measures nothing else.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import measuring
from benchmarks.decoding_data import Task, prepare
from benchmarks.max_merge_search import max_merge_search
from benchmarks.measuring import Row
from hw_asr.decoders import BaseDecoder, BeamSearch, FlashlightBeamSearch, ReferenceBeamSearch

Decode = Callable[[], list[str]]
BEAM = 50
# Enough for a call of tens of milliseconds: less would measure how long threads take to start.
THREAD_UTTERANCES = 64
LONG = 10  # utterances joined to one
WORD_WEIGHTS = {"lm_level": "word", "lm_weight": 0.8, "word_score": 1.0}


# Least ratios of peers to our first side that are wanted, by part of the peer's name.
GOALS = {"words": {"flashlight, defaults": 30.0, "pyctcdecode": 16.0}, "long": {"flashlight, defaults": 25.0}}


class Table:
    """Times every side of a case in turn, prints them with their ratios to the first, and keeps those as rows."""

    def __init__(self, task: Task, repeats: int, part: str, rows: list[Row]) -> None:
        self.task, self.repeats, self.part, self.rows = task, repeats, part, rows

    def show(self, title: str, sides: dict[str, Decode], clock: Callable[[], float] = time.process_time) -> None:
        texts = {name: decode() for name, decode in sides.items()}  # compiles and warms up, too
        best = dict.fromkeys(sides, float("inf"))
        for repeat in range(self.repeats):
            for name, decode in sides.items():
                if repeat and best[name] * len(self.task.texts) > 4.0:
                    continue  # seconds a run: once is enough
                start = clock()
                decode()
                best[name] = min(best[name], (clock() - start) / len(self.task.texts))
        ours = next(iter(best.values()))
        print(f"\n### {title}\n\n| decoder | ms | ratio | WER |\n|---|---|---|---|")
        for name, seconds in best.items():
            wer = self.task.wer(texts[name])
            print(f"| {name} | {1e3 * seconds:.2f} | {seconds / ours:.2f}x | {wer:.1f} |", flush=True)
            self._keep(title, name, seconds, wer, next(iter(best)), ours)

    def _keep(self, title: str, name: str, seconds: float, wer: float, first: str, ours: float) -> None:
        """A row of a side beside the first one; those of our own have no goal."""
        goal = GOALS.get(self.part, {}).get(name)
        note = f"{1e3 * seconds:.2f} : {1e3 * ours:.2f} ms an utterance; WER {wer:.1f}"
        if name != first:
            self.rows.append(Row(title, name, "process time", seconds / ours, goal, note))
        else:
            self.rows.append(Row(title, "itself", name, None, None, f"{1e3 * ours:.2f} ms an utterance; WER {wer:.1f}"))

    def run(self, decoder: BaseDecoder, chunk: int = 0) -> Decode:
        """Decode all utterances, in batches of ``chunk`` if given."""
        task, size = self.task, chunk or len(self.task.texts)
        batches = list(zip(task.log_probs.split(size), task.lengths.split(size), strict=True))
        return lambda: [found[0].text for batch in batches for found in decoder(*batch)]

    def ours(self, chunk: int = 0, **options: object) -> Decode:
        return self.run(BeamSearch(self.task.encoder, BEAM, tokens_per_frame=10, **options), chunk)  # type: ignore[arg-type]

    def flashlight(self, **options: object) -> Decode:
        return self.run(FlashlightBeamSearch(self.task.encoder, BEAM, **options))  # type: ignore[arg-type]


def words(table: Table) -> None:
    task = table.task
    weights = {"lm": task.word_lm, "lexicon": task.lexicon, **WORD_WEIGHTS}
    sides = {
        "ours, compiled, blank_skip 0.99, threshold 12": table.ours(beam_threshold=12.0, blank_skip=0.99, **weights),
        "ours, compiled, no skipping, threshold 20": table.ours(**weights),
        "flashlight, defaults": table.flashlight(**weights),
        "flashlight, threshold 15": table.flashlight(beam_threshold=15.0, **weights),
        "flashlight, threshold 15, 10 tokens": table.flashlight(beam_threshold=15.0, tokens_per_frame=10, **weights),
        "flashlight, threshold 10, 10 tokens": table.flashlight(beam_threshold=10.0, tokens_per_frame=10, **weights),
    }
    if peer := pyctcdecode(task):
        sides["pyctcdecode"] = peer
    table.show("Lexicon of 20k words, word 3-gram, V = 29, beam 50", sides)


def long(table: Table) -> None:
    task = table.task
    weights = {"lm": task.word_lm, "lexicon": task.lexicon, **WORD_WEIGHTS}
    sides = {
        "ours, blank_skip 0.99, threshold 12": table.ours(beam_threshold=12.0, blank_skip=0.99, **weights),
        "ours, blank_skip 0.999, threshold 15": table.ours(beam_threshold=15.0, blank_skip=0.999, **weights),
        "ours, no skipping, threshold 20": table.ours(**weights),
        "flashlight, defaults": table.flashlight(**weights),
    }
    if peer := pyctcdecode(task):
        sides["pyctcdecode"] = peer
    table.show("The same on ten joined utterances, T = 4000", sides)


def threads(table: Table) -> None:
    weights = {"lm": table.task.word_lm, "lexicon": table.task.lexicon, **WORD_WEIGHTS}
    sides = {f"ours, {n} threads, wall time": table.ours(n_threads=n, **weights) for n in (2, 1)}
    table.show(f"Two threads, {len(table.task.texts)} utterances at once", sides, time.perf_counter)


def characters(table: Table) -> None:
    sides = {
        "ours, compiled, no skipping": table.ours(engine="compiled"),
        "ours, compiled, blank_skip 0.99": table.ours(engine="compiled", blank_skip=0.99),
    }
    for cut in (0.0, 1e-4, 1e-3):
        if peer := fast_ctc_decode(table.task, cut):
            sides[f"fast-ctc-decode, cut {cut:g}"] = peer
    table.show("No language model, V = 29, beam 50, compiled", sides)
    sides = {
        "ours, tensors, B = 8, blank_skip 0.99": table.ours(8, engine="tensor", blank_skip=0.99),
        "ours, tensors, B = 8, no skipping": table.ours(8, engine="tensor"),
        "flashlight, defaults": table.flashlight(),
        "flashlight, threshold 15, 10 tokens": table.flashlight(beam_threshold=15.0, tokens_per_frame=10),
        "flashlight, threshold 10, 5 tokens": table.flashlight(beam_threshold=10.0, tokens_per_frame=5),
        "max-merge search over (B, K, V) in tensors": max_merge(table.task, 8),
        "reference search": table.run(ReferenceBeamSearch(table.task.encoder, BEAM)),
    }
    table.show("No language model, V = 29, beam 50, tensors", sides)


def pieces(table: Table) -> None:
    sides = {
        "ours, tensors, B = 8, blank_skip 0.99": table.ours(8, engine="tensor", blank_skip=0.99),
        "ours, tensors, B = 8, no skipping": table.ours(8, engine="tensor"),
        "ours, compiled, blank_skip 0.99": table.ours(engine="compiled", blank_skip=0.99),
        "flashlight, 50 tokens": table.flashlight(tokens_per_frame=50),
        "flashlight, threshold 15, 10 tokens": table.flashlight(beam_threshold=15.0, tokens_per_frame=10),
        "max-merge search over (B, K, V) in tensors": max_merge(table.task, 8),
    }
    table.show("No language model, V = 1000, beam 50", sides)
    weights = {"lm": table.task.token_lm, "lm_weight": 0.5}
    sides = {
        "ours, tensors, B = 8, blank_skip 0.99": table.ours(8, engine="tensor", blank_skip=0.99, **weights),
        "ours, tensors, B = 8, no skipping": table.ours(8, engine="tensor", **weights),
        "ours, compiled, blank_skip 0.99": table.ours(engine="compiled", blank_skip=0.99, **weights),
        "flashlight, 50 tokens": table.flashlight(tokens_per_frame=50, **weights),
        "flashlight, threshold 15, 10 tokens": table.flashlight(beam_threshold=15.0, tokens_per_frame=10, **weights),
    }
    table.show("Token 3-gram, V = 1000, beam 50", sides)


PARTS = {"words": words, "long": long, "threads": threads, "characters": characters, "pieces": pieces}


def pyctcdecode(task: Task) -> "Decode | None":
    try:
        from pyctcdecode import build_ctcdecoder
    except ImportError as error:
        print(f"pyctcdecode is left out: {error}")
        return None
    labels = ["", *(task.encoder.decode([i]) for i in range(1, len(task.encoder)))]
    decoder = build_ctcdecoder(labels, task.word_lm, Path(task.lexicon).read_text().split(), alpha=0.8, beta=1.0)
    arrays = [x.numpy() for x in task.log_probs]
    return lambda: [decoder.decode(x, beam_width=BEAM) for x in arrays]


def fast_ctc_decode(task: Task, cut: float) -> "Decode | None":
    try:
        from fast_ctc_decode import beam_search
    except ImportError as error:
        print(f"fast-ctc-decode is left out: {error}")
        return None
    # It takes one character a token, and keeps to itself what its blank is called.
    alphabet = "_" + "".join(task.encoder.decode([i]).replace(" ", "|") for i in range(1, len(task.encoder)))
    arrays = [x.exp().numpy() for x in task.log_probs]
    return lambda: [
        beam_search(x, alphabet, beam_size=BEAM, beam_cut_threshold=cut)[0].replace("|", " ") for x in arrays
    ]


def max_merge(task: Task, size: int) -> Decode:
    batches = task.log_probs.split(size)
    return lambda: [task.encoder.decode(ids) for batch in batches for ids in max_merge_search(batch, BEAM)]


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--utterances", type=int, default=8)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        few = arguments.utterances
        needed = {"threads": THREAD_UTTERANCES, "long": few * LONG}
        n_utterances = max(few, *(needed.get(part, 0) for part in arguments.parts))
        tasks = prepare(Path(folder), n_utterances, with_pieces="pieces" in arguments.parts)
        rows: list[Row] = []
        for part in arguments.parts:
            task = tasks["bpe" if part == "pieces" else "char"]
            if part == "long":
                task = task.some(few * LONG).joined(LONG)
            elif part != "threads":
                task = task.some(few)
            PARTS[part](Table(task, arguments.repeats, part, rows))
    measuring.write(rows, "decoding", arguments.output)


if __name__ == "__main__":
    main()
