"""Part two: every shipped config as it is, for its first hundred steps, and two demos to their end; none may alarm."""

import time
from pathlib import Path
from typing import Any

from hw_base.config import read as config_files
from hw_base.training.trainer import BaseTrainer
from tests.conftest import ROOT, SHARED
from tests.faults_of_training.play import run

STEPS, SECONDS = 100, 60.0  # of process time
TO_THE_END = ("configs/ds2.json", "configs/fastspeech2.json")
_FOLDERS = {
    "LibriSpeech": "LibriSpeech",
    "LJSpeech": "LJSpeech-1.1",
    "VCTK": "VCTK-Corpus-0.92",
    "FreeSpokenDigits": "free-spoken-digit-dataset",
}
# Parts that are larger than what is at hand.
_PARTS = {"train-960": "train-clean-100", "dev-other": "dev-clean"}
# What a CPU can compute of a recipe for a GPU.
_BATCH, _BATCH_SECONDS, _VALIDATED = 4, 40.0, 4
# Watchers look more often than in the config: there are more occasions for an alarm.
_LOOK = 5


def configs() -> list[str]:
    """All configs that can be trained, the small ones first, the demos last."""
    paths = [path for path in sorted((ROOT / "configs").rglob("*.*")) if "grading" not in path.parts]
    order = {"tiny": 0, "configs": 1, "fsdd": 2, "librispeech_mini": 3, "vctk_mini": 4}
    names = [str(p.relative_to(ROOT)) for p in sorted(paths, key=lambda p: (order.get(p.parent.name, 5), p.name))]
    return [*names, *(f"{name} to its end" for name in TO_THE_END)]


def play(title: str, seconds: float = SECONDS, data: Path = SHARED / "data") -> dict[str, Any]:
    """Train one of `configs`.

    Args:
        title: as there.
        seconds: of process time after which a run ends early.
        data: the folder with corpora.

    Returns:
        dict: ``name``, ``steps`` trained, ``said``, also the error that ended the run if one did, and ``note``: how the
        run differs from the config, or why there is none.
    """
    name, _, end = title.partition(" ")
    raw = config_files.read(ROOT / name)
    note = _adapt(raw, data) if not end else ""
    raw["writers"] = []
    raw["trainer"]["log_every"] = min(raw["trainer"].get("log_every", _LOOK), _LOOK)
    trainers: list[BaseTrainer] = []

    def shorten(trainer: BaseTrainer) -> None:
        trainers.append(trainer)
        if not end:
            started = time.process_time()
            whole = trainer._finished
            trainer._finished = lambda: (  # type: ignore[method-assign]
                whole() or trainer.step >= STEPS or time.process_time() - started > seconds
            )

    said = run(raw, change=shorten)
    if not trainers:  # it could not be built, for example because a corpus is not there
        return {"name": title, "steps": 0, "said": [], "note": f"not run: {said[-1].sentence}"}
    steps = trainers[0].step
    return {"name": title, "steps": steps, "said": [f"{o.by}: {o.name} (step {o.step})" for o in said], "note": note}


def _adapt(raw: dict[str, Any], data: Path) -> str:
    """Point a config to the corpora at hand; a batch of a recipe for a GPU is made small."""
    notes = []
    for split in raw["data"].values():
        if any(dataset["type"] == "Aligned" for dataset in split["datasets"]):
            split["datasets"] = [dataset["args"]["dataset"] for dataset in split["datasets"]]
            raw["model"]["args"]["alignment"] = "searched"
            notes += ["alignments searched"] * ("alignments searched" not in notes)
        for dataset in split["datasets"]:
            folder = _FOLDERS.get(dataset["type"])
            if folder is None:
                continue
            arguments = dataset["args"]
            arguments["root"] = str(data / folder)
            if "alignments" in arguments:
                arguments["alignments"] = str(data / folder / "alignments.zip")
            arguments["part"] = _PARTS.get(arguments["part"], arguments["part"])
    train, val = raw["data"]["train"], raw["data"].get("val", {})
    if any("mini" not in raw["name"] and d["type"] in ("LibriSpeech", "LJSpeech", "VCTK") for d in train["datasets"]):
        train["batch_size"], train["max_batch_seconds"] = _BATCH, _BATCH_SECONDS
        notes.append(f"batches of {_BATCH}")
        raw["trainer"]["log_every"] = 1
        val["limit"] = _VALIDATED
        val["batch_size"] = _VALIDATED
    for key in ("init_from", "new_speakers", "init_optimizers"):
        if raw.pop(key, None) is not None:
            notes.append(f"without {key}")
    if "tiny" in raw["name"]:
        raw["trainer"]["max_steps"] = STEPS
        raw["trainer"]["eval_every"] = STEPS
        notes.append(f"{STEPS} steps")
    return ", ".join(notes)


def row(found: dict[str, Any]) -> str:
    """One row of the table."""
    return f"| {found['name']} | {found['steps']} | {'; '.join(found['said']) or '-'} | {found['note'] or '-'} |"
