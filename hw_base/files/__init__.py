"""Files of a model: what a checkpoint must be, the published format, and the space on disk that they need."""
