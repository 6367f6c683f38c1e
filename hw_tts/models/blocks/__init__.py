"""Parts that the acoustic models are put together from."""
