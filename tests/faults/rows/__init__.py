"""The rows of the table; importing this package declares them."""

# ruff: noqa: F401
from tests.faults.rows import (
    archives,
    caches,
    checkpoints,
    configs,
    disks,
    endurance,
    grader,
    inputs,
    kills,
    loaders,
    numbers,
    places,
    processes,
    repeats,
    signals,
    strangers,
    trackers,
)
