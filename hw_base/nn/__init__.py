"""What networks of both tasks are made of."""
