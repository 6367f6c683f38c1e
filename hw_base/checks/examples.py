"""How a component is built for a check: as the smallest config builds it that names it."""

import functools
import inspect
import json
from pathlib import Path
from typing import Any

import hw_base
from hw_base.checks.table import REGISTRIES
from hw_base.config import read as config_files
from hw_base.config.upgrade import upgrade
from hw_base.config.walk import sites

CONFIGS = Path(hw_base.__file__).resolve().parent.parent / "configs"


def example_args(kind: str, name: str) -> dict[str, Any] | None:
    """The arguments of the first config that names a component, the tiny ones first.

    Returns:
        {} where no config does and its constructor needs none; None where it needs some.
    """
    found = _examples().get((kind, name))
    if found is not None:
        return dict(json.loads(found))
    parameters = inspect.signature(REGISTRIES[kind][name]).parameters.values()
    required = {p.name for p in parameters if p.default is p.empty} - {
        "text_encoder",
        "sample_rate",
        "n_mels",
        "n_tokens",
    }
    return None if required else {}


@functools.cache
def _examples() -> dict[tuple[str, str], str]:
    kinds = {id(registry): kind for kind, registry in REGISTRIES.items()}
    examples: dict[tuple[str, str], str] = {}
    for path in [*sorted((CONFIGS / "tiny").glob("*.*")), *sorted(CONFIGS.rglob("*.*"))]:
        if path.suffix not in (".json", ".yaml", ".yml"):
            continue
        tree = config_files.read(path)
        upgrade(tree)
        for site in sites(tree):
            if site.of is not None and isinstance(site.raw, dict) and "type" in site.raw:
                key = (kinds.get(id(site.of.registry), ""), str(site.raw["type"]))
                examples.setdefault(key, json.dumps(site.raw.get("args", {})))
    return examples
