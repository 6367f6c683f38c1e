"""The rows of the table; importing this package declares them."""

from tests.faults.rows import archives, caches, checkpoints, configs, inputs, numbers, processes, repeats, strangers  # noqa: F401
