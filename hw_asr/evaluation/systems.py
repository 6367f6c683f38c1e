"""What the runs of a report recognized: one system for each run, output file and decoder, scored split by split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from hw_asr.decoders import GREEDY
from hw_asr.evaluation import scoring
from hw_base.errors import DataError
from hw_base.metrics import Edits
from hw_base.reports.record import Output, Run
from hw_base.texts.normalizers import NormalizerName

_ASKED_FOR = ("argmax", "beam_search")
# What of one utterance is counted for a comparison: errors and units.
Counts = tuple[float, float]


@dataclass(frozen=True)
class System:
    """One decoder of one run on one split.

    Attributes:
        run: where it is from.
        file: the output's name.
        split: of the data.
        decoder: as the keys ``pred_text_<decoder>`` have it.
        score: against the references.
        rows: of the output, by id.
        about: what ``metrics.json`` says of the output.
    """

    run: Run
    file: str
    split: str
    decoder: str
    score: scoring.Score
    rows: Mapping[str, Mapping[str, Any]]
    about: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Run, decoder and, where the run has several outputs, the file."""
        file = f" in {self.file}" if len(self.run.outputs) > 1 else ""
        return f"{self.run.name} ({self.decoder}{file})"

    def counts(self, ids: Sequence[str], characters: bool = False) -> list[Counts]:
        """Errors and units of some utterances."""
        place = {utterance: i for i, utterance in enumerate(self.score.ids)}
        edits = (self.score.cer if characters else self.score.wer).utterances
        return [(edits[place[i]].distance, edits[place[i]].references) for i in ids]

    def edits(self, utterance: str) -> Edits:
        """Words of one utterance."""
        return self.score.wer.utterances[self.score.ids.index(utterance)]

    def audio(self, utterance: str) -> Path | None:
        """The recording, where the output names one."""
        path = self.rows[utterance].get("audio_path")
        return Path(path) if isinstance(path, str) and path and "\0" not in path else None

    def decoder_arguments(self) -> Mapping[str, Any]:
        """The decoder's section of the config: ``type`` and ``args`` in one."""
        sections = self.about.get("decoders", self.run.config.get("decoders"))
        section = sections.get(self.decoder, {}) if isinstance(sections, Mapping) else {}
        if not isinstance(section, Mapping):
            return {"type": str(section)}
        arguments = section.get("args")
        return {"type": section.get("type"), **(arguments if isinstance(arguments, Mapping) else {})}

    def is_greedy(self) -> bool:
        """Whether it takes the likeliest token of each frame."""
        return self.decoder == "argmax" or self.decoder_arguments().get("type") in GREEDY

    def has_lm(self) -> bool:
        """Whether a language model takes part."""
        return bool(self.decoder_arguments().get("lm"))


def systems_of(run: Run) -> list[System]:
    """All systems of a run whose outputs hold references."""
    found = []
    for output in run.outputs:
        splits = list(dict.fromkeys(str(row.get("split", "")) for row in output.rows))
        for split in splits:
            rows = {str(row["id"]): row for row in output.rows if str(row.get("split", "")) == split}
            configured = output.about.get("decoders", run.config.get("decoders"))
            found += [
                system for key in _decoders(rows, configured) if (system := _system(run, output, split, key, rows))
            ]
    return found


def _decoders(rows: Mapping[str, Mapping[str, Any]], configured: Any) -> list[str]:
    """Those with predictions, without names that the format asks for and that repeat a decoder called otherwise."""
    keys = dict.fromkeys(key for row in rows.values() for key in row if key.startswith("pred_text_") and row[key])
    names = [key.removeprefix("pred_text_") for key in keys]
    texts = {name: [scoring.best(row.get(f"pred_text_{name}")) for row in rows.values()] for name in names}
    own = [name for name in names if name in configured] if isinstance(configured, Mapping) else []
    return [
        name
        for name in names
        if name not in _ASKED_FOR or name in own or not any(texts[other] == texts[name] for other in own)
    ]


def _system(run: Run, output: Output, split: str, decoder: str, rows: Mapping[str, Mapping[str, Any]]) -> System | None:
    """None without references."""
    references, hypotheses = {}, {}
    for utterance, row in rows.items():
        reference = row.get("ground_truth", row.get("ground_trurh"))
        if isinstance(reference, str) and len(reference) <= scoring.LONGEST_TEXT:
            text = scoring.best(row.get(f"pred_text_{decoder}"))
            references[utterance] = reference
            hypotheses[utterance] = text if isinstance(text, str) and len(text) <= scoring.LONGEST_TEXT else ""
    if not references:
        return None
    normalizers = output.about.get("normalizers")
    kind = normalizers.get("wer") if isinstance(normalizers, Mapping) else None
    kind = kind if kind in get_args(NormalizerName) else "letters"
    try:
        score = scoring.score(references, hypotheses, cast(NormalizerName, kind))
    except DataError:
        return None
    return System(run, output.path.name, split, decoder, score, rows, output.about)
