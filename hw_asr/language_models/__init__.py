"""N-gram language models: reading and writing ARPA, scoring in arrays, estimation from text."""
