"""Which frames belong to which symbol: given, read, or learned."""
