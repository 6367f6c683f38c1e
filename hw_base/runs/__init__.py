"""One run on disk: its command line, its folder, its parts built from a config."""
