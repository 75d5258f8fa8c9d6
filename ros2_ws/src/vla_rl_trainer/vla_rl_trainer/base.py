"""The small base policy that ships with the package.

Made by `python -m vla_rl_trainer.pretrain` (the exact command stands in `base/README.md`) on play alone: no benchmark
task and none of its objects occurs in what it has seen.
"""

from __future__ import annotations

from pathlib import Path

from vla_policy.errors import VlaError


def base_policy() -> Path:
    """Folder of the shipped `tiny` base.

    Raises:
        VlaError: the installation lacks it.
    """
    folder = Path(__file__).parent / "base" / "tiny"
    if not (folder / "config.json").exists():
        raise VlaError(f"{folder} is missing; reinstall, or make a base: python -m vla_rl_trainer.pretrain")
    return folder
