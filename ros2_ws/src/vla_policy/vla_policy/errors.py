"""The one base class of every error a user can cause; its message names the remedy."""


class VlaError(Exception):
    """A mistake in what was asked for, or in the files handed over. Scripts print it as one line and exit with 2."""
