"""From a file to a checked `Config`."""
