"""Speech of a checkpoint, and its scores."""
