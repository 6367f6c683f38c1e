"""Which frames belong to which symbol: given, read from files, or searched."""
