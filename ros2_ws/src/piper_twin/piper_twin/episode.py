"""What names a world: the task, the seed and the split it is drawn from."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np

from vla_policy.errors import VlaError

SPLITS = ("train", "evaluation", "demonstration", "pretraining")
"""Each split has random streams of its own, so the same seed names different worlds in each: evaluation worlds never
occur in training."""


@dataclasses.dataclass(frozen=True, slots=True)
class Episode:
    """One world and one try at its task; the three fields determine the world completely."""

    task: str
    seed: int
    split: str = "train"

    def __post_init__(self) -> None:
        """Refuse what names no world."""
        if self.split not in SPLITS:
            raise VlaError(f"split {self.split!r} does not exist; choose one of {', '.join(SPLITS)}")
        if self.seed < 0:
            raise VlaError(f"seed {self.seed} is negative; seeds count from 0")

    def generator(self, purpose: str) -> np.random.Generator:
        """The episode's own random stream for one purpose ("start", "randomization", ...)."""
        words = [zlib.crc32(text.encode()) for text in (self.task, self.split, purpose)]
        return np.random.default_rng(np.random.SeedSequence([*words, self.seed]))
