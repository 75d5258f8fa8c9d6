"""Where bags lie and how they are named; nothing is ever overwritten or thrown away.

    bags/episode_000012_press_the_bell_success/    finished: <name>.mcap and metadata.yaml
    bags/discarded/episode_000013_press_the_bell/  kept, but for eyes only
    bags/.episode_000014_press_the_bell.recording/ being recorded, or left by a recorder that was killed

A bag gets its visible name in one step, when it is whole.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from vla_policy.errors import VlaError

DISCARDED = "discarded"
"""Outcome, and folder, of episodes nobody wants."""

_SUFFIX = ".recording"
_LOCK = ".lock"
_NUMBERED = re.compile(r"\.?episode_(\d{6,})(?:_|\.|$)")
_MAX_SLUG = 40
"""Characters."""


class BagFolder:
    """The hidden folder of one episode while it is recorded; held, so that recovery leaves it alone."""

    def __init__(self, path: Path) -> None:
        """Hold a hidden folder that exists.

        Raises:
            VlaError: another process records into it.
        """
        self.path = path
        self._handle = os.open(path / _LOCK, os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._handle)
            raise VlaError(f"{path} is being recorded; end the episode or the recorder first") from error

    @staticmethod
    def create(bags: Path, title: str) -> BagFolder:
        """Begin the next episode.

        Args:
            bags: Folder of all bags; made when it is missing.
            title: Task or instruction, for the name.

        Raises:
            VlaError: the folder cannot be written to.
        """
        try:
            bags.mkdir(parents=True, exist_ok=True)
            while True:
                path = bags / f".episode_{_next_number(bags):06d}_{slug(title)}{_SUFFIX}"
                try:
                    path.mkdir()
                    return BagFolder(path)
                except FileExistsError:  # another recorder was faster
                    continue
        except OSError as error:
            raise VlaError(f"cannot record into {bags} ({error.strerror}); choose another folder") from error

    @property
    def name(self) -> str:
        """Name of the episode, without its outcome."""
        return self.path.name.removeprefix(".").removesuffix(_SUFFIX)

    @property
    def bag(self) -> Path:
        """The bag while it is written; its file in it has the same name."""
        return self.path / self.name

    def keep(self, outcome: str, bag: Path | None = None) -> Path:
        """Give the finished bag, or `bag` in its place, its visible name, and remove the hidden folder."""
        bags = self.path.parent
        wanted = bags / DISCARDED / self.name if outcome == DISCARDED else bags / f"{self.name}_{outcome}"
        wanted.parent.mkdir(exist_ok=True)
        final, bag = free_name(wanted), bag or self.bag
        for path in (*bag.iterdir(), bag):
            _flush_to_disk(path)
        os.rename(bag, final)
        _flush_to_disk(final.parent)
        self.remove()
        return final

    def leave(self) -> None:
        """Let go of the folder and what is in it, for recovery."""
        os.close(self._handle)

    def remove(self) -> None:
        """Delete the folder and let go of it."""
        shutil.rmtree(self.path)
        os.close(self._handle)


def unfinished(bags: Path) -> list[Path]:
    """Hidden folders of episodes that are being recorded, or that a killed recorder has left."""
    return sorted(path for path in bags.glob(f".episode_*{_SUFFIX}") if path.is_dir())


def is_unfinished(path: Path) -> bool:
    """True for a hidden folder as `unfinished` lists them."""
    return path.name.endswith(_SUFFIX) and path.is_dir()


def slug(text: str) -> str:
    """A text as part of a file name: "Press the bell!" becomes press_the_bell."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return "_".join(words)[:_MAX_SLUG].strip("_") or "episode"


def free_name(wanted: Path) -> Path:
    """`wanted`, or the first of wanted_2, wanted_3, ... that does not exist."""
    return next(path for path in _candidates(wanted) if not path.exists())


def _candidates(wanted: Path) -> Iterator[Path]:
    yield wanted
    number = 2
    while True:
        yield wanted.with_name(f"{wanted.name}_{number}")
        number += 1


def _next_number(bags: Path) -> int:
    """One more than the highest, so that the numbers of deleted bags do not come again."""
    names = [path.name for folder in (bags, bags / DISCARDED) if folder.is_dir() for path in folder.iterdir()]
    numbers = [int(match.group(1)) for name in names if (match := _NUMBERED.match(name))]
    return max(numbers, default=-1) + 1


def _flush_to_disk(path: Path) -> None:
    """Make a file, or the names in a folder, last through a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
