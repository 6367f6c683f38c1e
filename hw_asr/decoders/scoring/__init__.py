"""What a search adds to the acoustics: language models, lexicons, hot words."""
