"""Names that configs used before: each is accepted, with one line of warning, and becomes the present one.

A checkpoint carries the config it was trained with, so this is also what lets older checkpoints open.
"""

import logging
from typing import Any

from hw_base.config.schema import OptimizerSection, Section
from hw_base.config.walk import place, schema_of, sites

log = logging.getLogger(__name__)

# Section of the schema -> key before -> key now.
_KEYS: dict[type[Section], dict[str, str]] = {OptimizerSection: {"rates": "lr_factors"}}
# Sections that all tasks had and that are one task's own now: the checkpoints of the others hold them, empty.
_ONCE_COMMON = ("new_speakers",)


def upgrade(tree: dict[str, Any]) -> None:
    """Rename old keys and old registered names in a raw config, in place."""
    for key in _ONCE_COMMON:
        if key not in schema_of(tree).model_fields and tree.get(key, ...) is None:
            del tree[key]
    for site in sites(tree):
        raw = site.raw
        if isinstance(raw, dict):
            for old, new in _KEYS.get(site.section, {}).items():
                if old in raw and new not in raw:
                    raw[new] = raw.pop(old)
                    log.warning("%s is now named %r; the old name is accepted", place((*site.path, old)), new)
        name = raw.get("type") if isinstance(raw, dict) else raw
        if site.of is None or not isinstance(name, str) or name not in site.of.registry.renamed:
            continue
        now = site.of.registry.renamed[name]
        log.warning("%s: %r is now named %r; the old name is accepted", place((*site.path, "type")), name, now)
        if isinstance(raw, dict):
            raw["type"] = now
        else:
            site.replace(now)
