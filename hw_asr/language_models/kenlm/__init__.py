"""Reading KenLM's binary files."""
