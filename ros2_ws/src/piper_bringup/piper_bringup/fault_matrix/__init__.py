"""The fault matrix: every fault injected into the real path while the arms move, and what became of it."""
