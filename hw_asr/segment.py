# PYTHON_ARGCOMPLETE_OK
"""Cut long utterances at pauses between words: ``python -m hw_asr.segment -c CONFIG -a ALIGNMENTS -o FOLDER``.

What is too long for a batch becomes fit for training, and a recurrence takes fewer steps for as much speech. The
alignments are of characters, spaces included, in the format of `hw_base.texts.alignments`.
"""

import argparse
import itertools
import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from hw_base import storage
from hw_base.audio import io as audio
from hw_base.audio.silence import pauses
from hw_base.config import resolve as config
from hw_base.config.schema import TRAIN_SPLIT
from hw_base.errors import DataError
from hw_base.runs import cli, outputs
from hw_base.runs.experiment import Experiment
from hw_base.runs.parser import Parser
from hw_base.texts.alignments import read_alignment
from hw_base.training.progress import Progress

MANIFEST = "manifest.jsonl"
# A recognizer may miss a pause by so many seconds.
REACH = 0.1

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = Parser(
        "python -m hw_asr.segment",
        "Cut long utterances at pauses between words, so that training has shorter ones.",
        ["-c configs/librispeech_mini/ds2_from_demo.json -a alignments -o segments"],
        epilog=f"writes <id>_<number>.flac and {MANIFEST}, which the dataset `Manifest` reads.",
    )
    parser.add_argument("-c", "--config", metavar="FILE", required=True, help="JSON or YAML config whose data is cut")
    parser.add_argument("--split", default=TRAIN_SPLIT, help=f"of the config; default: {TRAIN_SPLIT}")
    parser.add_argument(
        "-a", "--alignments", metavar="FOLDER", required=True, help="<id>.json of each utterance: its characters' times"
    )
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="where the segments go")
    parser.add_argument(
        "--min-seconds", type=cli.positive(float), default=2.0, help="no segment is shorter; default: 2"
    )
    parser.add_argument(
        "--pause", type=cli.positive(float), default=0.1, help="seconds that a pause takes at least; default: 0.1"
    )
    cli.add_set(parser)
    cli.add_import(parser)
    arguments = parser.parse_args(argv)
    return cli.run(lambda: _segment(arguments), arguments.imports)


def _segment(arguments: argparse.Namespace) -> int:
    experiment = Experiment(config.load(arguments.config, arguments.set), torch.device("cpu"))
    split = experiment.split(arguments.split, evaluation=True)
    folder, rate = Path(arguments.output), split.sample_rate
    rows: list[dict[str, Any]] = []
    why: Counter[str] = Counter()
    with Progress(0, len(split)) as progress:
        for i, record in enumerate(split.records):
            progress.advance()
            path = Path(arguments.alignments) / outputs.file_name(record.utterance_id, ".json", "--alignments")
            if not path.is_file():
                why["they have no alignment"] += 1
                continue
            words = (record.text or "").split()
            gaps = [(start, end) for symbol, start, end in read_alignment(path, record.utterance_id) if symbol == " "]
            if len(gaps) != len(words) - 1:
                why["the spaces of their alignments are not those of their texts"] += 1
                continue
            waveform = split.waveform(i)
            quiet = pauses(waveform, rate, arguments.pause)
            for number, (start, end, first, last) in enumerate(
                segments(gaps, quiet, len(waveform) / rate, arguments.min_seconds)
            ):
                name = outputs.file_name(f"{record.utterance_id}_{number}", ".flac")
                audio.save(folder / name, waveform[round(start * rate) : round(end * rate)], rate)
                text = " ".join(words[first:last])
                rows.append({"audio_path": name, "text": text, "speaker": record.speaker})
    if not rows:
        reason = why.most_common(1)[0][0]
        raise DataError(
            f"--alignments {arguments.alignments}: none of {len(split)} utterances can be cut: {reason}; align them by "
            "characters first, see docs/data.md"
        )
    storage.write_text(folder / MANIFEST, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    for reason, count in why.most_common():
        log.warning("%d of %d utterances are left out: %s", count, len(split), reason)
    log.info(
        "%d of %d utterances: %d segments in %s", len(split) - why.total(), len(split), len(rows), folder / MANIFEST
    )
    return 0


def segments(
    gaps: Sequence[tuple[float, float]], quiet: Sequence[tuple[float, float]], duration: float, shortest: float
) -> Iterator[tuple[float, float, int, int]]:
    """Stretches of an utterance between pauses.

    Every pause near the gap between two words is a place to cut, in its middle; those that would leave a shorter
    segment are passed over.

    Args:
        gaps: between word i and word i + 1, seconds.
        quiet: pauses, seconds.
        duration: of the utterance.
        shortest: segment, in seconds; an utterance that is shorter is one segment.

    Yields:
        start, end, index of the first word, index behind the last one; together they are the whole utterance.
    """
    cuts = [(0.0, 0)]
    for word, (start, end) in enumerate(gaps, start=1):
        near = [(b - a, (a + b) / 2) for a, b in quiet if a < end + REACH and b > start - REACH]
        middle = max(near)[1] if near else 0.0
        if middle - cuts[-1][0] >= shortest and duration - middle >= shortest:
            cuts.append((middle, word))
    cuts.append((duration, len(gaps) + 1))
    for (start, first), (end, last) in itertools.pairwise(cuts):
        yield start, end, first, last


if __name__ == "__main__":
    sys.exit(main())
