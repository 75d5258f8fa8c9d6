"""Files that ship with this package: beside the sources, or where colcon installed them."""

from __future__ import annotations

import os
from pathlib import Path

from vla_policy.errors import VlaError


def config_file(name: str) -> Path:
    """A file of the package's config folder.

    Raises:
        VlaError: it is not there.
    """
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    folders = [Path(__file__).parents[2], *(prefix / "share" / "piper_bringup" for prefix in prefixes)]
    for folder in folders:
        if (folder / "config" / name).is_file():
            return folder / "config" / name
    raise VlaError(f"config/{name} of piper_bringup is not installed; source install/setup.bash, or name a file")
