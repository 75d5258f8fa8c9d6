"""Turn LIBERO's public demonstrations into a dataset to train on.

    python -m vla_rl_trainer.libero.import_hdf5 LIBERO/datasets/libero_object --out data/libero_object_public

reads the HDF5 files named, or those in folders named: the published ones, or the regenerated ones of OpenVLA, whose
images are larger. From which initial states they start is not known to be apart from those held out for evaluation.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from vla_policy.errors import VlaError
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_at_least
from vla_rl_trainer.dataset import DatasetWriter
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.libero.hdf5_files import DemoFile
from vla_rl_trainer.progress import Progress

REPORT = "meta/import_report.json"
"""In the dataset: what was imported from where."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportHdf5Config:
    """Importing public demonstrations."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """HDF5 files, one a task, or folders of them."""
    out: Path
    """Dataset folder, which must not exist."""
    num_demos: int | None = None
    """The first so many of each file; all by default."""
    keep_noops: bool = False
    """Keep frames in which nothing is done; a policy would learn to wait from them."""
    images: Literal["image", "video"] = "image"
    """image: PNG, lossless; video: H.264, smaller."""

    def __post_init__(self) -> None:
        """Refuse what cannot be imported."""
        if not self.files:
            raise VlaError("no file was given; name HDF5 files or folders of them")
        if self.num_demos is not None:
            require_at_least(self, 1, "num_demos")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What is in the dataset of one file."""

    file: str
    task: str
    num_demos: int
    num_frames: int
    num_noops: int
    """Frames left out."""
    num_late: int
    """Demonstrations whose observations come after their actions."""


def find_files(paths: tuple[Path, ...]) -> list[Path]:
    """The files named, and those in the folders named.

    Raises:
        VlaError: a path does not exist, or a folder holds none.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise VlaError(f"{path} does not exist; check its name")
        inside = sorted(path.glob("*.hdf5")) if path.is_dir() else [path]
        if not inside:
            raise VlaError(f"{path} holds no .hdf5 file; name a folder such as libero_object")
        found += inside
    return list(dict.fromkeys(found))


def import_file(path: Path, writer: DatasetWriter, config: ImportHdf5Config) -> Imported:
    """Append the demonstrations of one file.

    Raises:
        VlaError: it is no such file.
    """
    noops = late = count = 0
    before = writer.num_frames
    with DemoFile(path) as file:
        for demo in itertools.islice(file.demos(keep_noops=config.keep_noops), config.num_demos):
            writer.add(demo.episode)
            count, noops, late = count + 1, noops + demo.num_noops, late + demo.is_late
        return Imported(
            file=str(path),
            task=str(file.task),
            num_demos=count,
            num_frames=writer.num_frames - before,
            num_noops=noops,
            num_late=late,
        )


def main(config: ImportHdf5Config) -> None:
    """Import, and tell what is in the dataset."""
    paths = find_files(config.files)
    imported: list[Imported] = []
    with (
        DatasetWriter(config.out, LIBERO_PANDA, images=config.images) as writer,
        Progress("files", len(paths)) as progress,
    ):
        for path in paths:
            imported.append(import_file(path, writer, config))
            progress.advance(note=path.name)
    content = json.dumps([dataclasses.asdict(one) for one in imported], indent=2)
    write_atomically(config.out / REPORT, content + "\n")
    table = Table(title=str(config.out))
    for column in ("task", "demonstrations", "frames", "without motion, left out"):
        table.add_column(column, justify="left" if column == "task" else "right")
    for one in imported:
        table.add_row(one.task, str(one.num_demos), str(one.num_frames), str(one.num_noops))
    Console().print(table)


if __name__ == "__main__":
    run_command(main, ImportHdf5Config)
