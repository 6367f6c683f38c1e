"""Files as such: where they come from, archives, the published format, what a checkpoint must be, and space on disk."""
