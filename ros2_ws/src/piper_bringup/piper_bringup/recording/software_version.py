"""Which version of this code runs, for what it records."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path


def software_version() -> str:
    """The commit ("3cb6913", "-dirty" behind it) in a checkout, the package's version elsewhere."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10.0, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return _installed()
    return done.stdout.strip() or _installed()


def _installed() -> str:
    """The package alone is what colcon installs, the project as one what pip installs."""
    for name in ("piper_bringup", "vla-piper"):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"
