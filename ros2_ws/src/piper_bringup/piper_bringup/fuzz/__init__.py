"""Attacks on the guard, and an independent measurement of what it lets through."""
