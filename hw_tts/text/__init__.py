"""Text front ends: from writing to symbols to ids."""
