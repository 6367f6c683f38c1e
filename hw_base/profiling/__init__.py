"""Where the time and the memory of a training go: ``python -m hw_base.profile -c CONFIG``."""
