"""What a policy keeps of the folder its network was read from, so that it can be written back or built upon."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vla_policy.errors import VlaError

WHOLE = ("projector", "proprio_projector", "head")
"""Parts of a published network that may be trained whole beside adapters."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """What a published folder holds besides what a policy uses; written back with it."""

    manifest: Mapping[str, Any]
    """`config.json`."""
    datasets: Mapping[str, Any]
    """`dataset_statistics.json`, or what stood for it."""
    carried: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)
    """Dead weights and the whole head of the language model, by published name, as stored."""
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    """Files that travel as they are."""
    heads: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Name of the `.pt` file by what it holds; what is not listed goes among the other weights."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSize:
    """How much of a network adapters (LoRA) can change. As in OpenVLA-OFT unless said otherwise."""

    rank: int = 32
    alpha: float = 16.0
    """The change of a layer is multiplied by alpha / rank."""
    whole: tuple[str, ...] = ()
    """Parts that are trained whole instead."""

    def __post_init__(self) -> None:
        """Refuse what changes nothing.

        Raises:
            VlaError: a number is out of range, or a part unknown.
        """
        if self.rank < 1 or not self.alpha > 0:
            raise VlaError(f"adapters of rank {self.rank} and alpha {self.alpha} change nothing; give more than 0")
        if unknown := set(self.whole) - set(WHOLE):
            raise VlaError(f"no part is called {', '.join(sorted(unknown))}; trained whole can be {', '.join(WHOLE)}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """The base that a network's adapters change; it stays where it is, and as it is."""

    size: AdapterSize
    folder: Path | None
    """Checkpoint of the base; None: it lies nowhere, and its adapters cannot be saved."""
    sha256: str
    """Of its weights."""
