"""Beam search in tensors, whole batches at once, for a GPU."""
