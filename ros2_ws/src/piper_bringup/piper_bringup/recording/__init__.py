"""Episodes in bags."""
