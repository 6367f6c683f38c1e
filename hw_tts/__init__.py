"""Speech synthesis; importing this package fills the registries with all of it."""
