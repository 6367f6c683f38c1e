"""What speech recognition and speech synthesis share: registries, configs, data, the training loop, checkpoints.

Letters of shapes: B batch, S samples, T frames, L tokens, F feature bins, D width, V vocabulary, C channels.
"""
