"""Turn recorded bags into a dataset to train on.

    python -m vla_rl_trainer.import_bags bags --out data/teleop

takes every solved episode in the folder; what is left out, and why, is told at the end, with what each camera missed.
Bags come from the recorder, or from `ros2 bag record` with the same topics.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from piper_twin.robot import DUAL_PIPER
from vla_policy import topics
from vla_policy.embodiment import Embodiment
from vla_policy.episode_info import FAILURE, SUCCESS, UNKNOWN
from vla_policy.errors import VlaError
from vla_rl_trainer.alignment import StreamReport, align, num_idle_rows
from vla_rl_trainer.bag_reader import JOINTS, BagReader
from vla_rl_trainer.command import run_command
from vla_rl_trainer.dataset import DatasetWriter, EpisodeData
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.progress import Progress

REPORT = "meta/import_report.json"
"""In the dataset: what was imported from where, and how complete it was."""
_RECORDING = ".recording"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Importing bags."""

    bags: tyro.conf.Positional[tuple[Path, ...]]
    """Bags, or folders of bags."""
    out: Path
    """Dataset folder, which must not exist."""
    include: tuple[Literal["failure"], ...] = ()
    """Import failed episodes, too, marked as such."""
    outcome: Literal["success", "failure"] | None = None
    """Of bags that do not tell theirs: recovered ones, and those of ros2 bag record."""
    instruction: str | None = None
    """Of bags that do not tell theirs."""
    images: Literal["image", "video"] = "image"
    """image: PNG, lossless; video: H.264, smaller."""
    keep_idle: bool = False
    """Keep the rows before the arms are first told to move; a policy would learn to wait from them."""
    max_age: float = 0.2
    """A bag whose cameras or joints are interrupted for longer is left out [s]."""

    def __post_init__(self) -> None:
        """Refuse what cannot be imported."""
        if not self.bags:
            raise VlaError("no bag was given; name bags or folders of bags")
        if self.max_age <= 0.0:
            raise VlaError(f"max_age is {self.max_age}; give more than 0")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """One bag that is in the dataset."""

    bag: str
    num_frames: int
    num_idle: int
    """Rows left out before the first motion."""
    outcome: str
    instruction: str
    streams: dict[str, StreamReport]
    """Camera or joint topic to how complete it was."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """One bag that is not."""

    bag: str
    reason: str


def find_bags(paths: tuple[Path, ...]) -> list[Path]:
    """The bags named, and those in the folders named; unfinished ones, too.

    Raises:
        VlaError: a path does not exist or holds no bag.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise VlaError(f"bag {path} does not exist; check its name")
        if _is_bag(path):
            found.append(path)
            continue
        inside = sorted(folder for folder in path.iterdir() if folder.is_dir() and _is_bag(folder))
        if not inside:
            raise VlaError(f"{path} is no bag and holds none; a bag is a folder with metadata.yaml, or .mcap, or .db3")
        found += inside
    return list(dict.fromkeys(found))


def _is_bag(path: Path) -> bool:
    if path.is_file():
        return path.suffix in (".mcap", ".db3")
    if path.name.endswith(_RECORDING) or (path / "metadata.yaml").exists():
        return True
    return any(file.suffix in (".mcap", ".db3") for file in path.iterdir())


def read_episode(path: Path, config: ImportConfig, robot: Embodiment) -> tuple[EpisodeData, Imported]:
    """The episode of one bag, aligned to the robot's control period.

    Raises:
        VlaError: the bag is damaged, of another robot, incomplete or unwanted.
    """
    if path.name.endswith(_RECORDING):
        raise VlaError(f"bag {path} is unfinished; save it with python -m piper_bringup.recover_bag {path}")
    with BagReader(path, robot) as bag:
        outcome, instruction = _outcome(bag, config), _instruction(bag, config)
        reference = robot.camera_names[0]
        aligned = align(
            bag.times,
            robot.control_period,
            reference=reference,
            actions=topics.JOINT_COMMANDS,
            max_age=config.max_age,
            owner=f"bag {path}",
        )
        states, actions = (bag.positions[topic][aligned.rows[topic]] for topic in JOINTS)
        idle = 0 if config.keep_idle else num_idle_rows(actions)
        states, actions = states[idle:], actions[idle:]
        episode = EpisodeData(
            images=bag.images({name: aligned.rows[name][idle:] for name in robot.camera_names}),
            state=states,
            action=actions,
            instruction=instruction,
            success=outcome == SUCCESS,
            seed=None,
            task=(bag.info.task if bag.info else "") or instruction,
        )
    return episode, Imported(
        bag=str(path),
        num_frames=len(episode),
        num_idle=idle,
        outcome=outcome,
        instruction=instruction,
        streams=dict(aligned.reports),
    )


def _outcome(bag: BagReader, config: ImportConfig) -> str:
    told = bag.info.outcome if bag.info else UNKNOWN
    outcome = config.outcome if told == UNKNOWN and config.outcome else told
    if outcome == SUCCESS or outcome in config.include:
        return outcome
    remedy = {
        UNKNOWN: "tell it with --outcome success or --outcome failure",
        FAILURE: "--include failure takes it",
    }.get(outcome, "move it out of the folder of discarded ones")
    raise VlaError(f"bag {bag.path} has the outcome {outcome}; {remedy}")


def _instruction(bag: BagReader, config: ImportConfig) -> str:
    instruction = (bag.info.instruction if bag.info else bag.instruction) or config.instruction
    if not instruction:
        raise VlaError(f"bag {bag.path} does not tell what the robot was told; say it with --instruction")
    return instruction


def import_bags(config: ImportConfig, robot: Embodiment) -> tuple[list[Imported], list[LeftOut]]:
    """Write the dataset; returns what is in it and what is not.

    Raises:
        VlaError: no bag can be imported: the reasons are in the message.
    """
    paths = find_bags(config.bags)
    imported: list[Imported] = []
    left_out: list[LeftOut] = []
    with (
        DatasetWriter(config.out, robot, images=config.images) as writer,
        Progress("bags", len(paths)) as progress,
    ):
        for path in paths:
            try:
                episode, report = read_episode(path, config, robot)
            except VlaError as error:
                left_out.append(LeftOut(bag=str(path), reason=str(error)))
            else:
                writer.add(episode)
                imported.append(report)
            progress.advance(note=path.name)
        if not imported:
            reasons = "\n  ".join(each.reason for each in left_out)
            raise VlaError(f"none of {len(paths)} bags can be imported:\n  {reasons}")
    content = {
        "imported": [dataclasses.asdict(each) for each in imported],
        "left_out": [dataclasses.asdict(each) for each in left_out],
    }
    write_atomically(config.out / REPORT, json.dumps(content, indent=2) + "\n")
    return imported, left_out


def table_of(imported: list[Imported]) -> Table:
    """What each camera missed, for a terminal."""
    table = Table(title="frames of the cameras; far: rows farther than half a frame from their image")
    table.add_column("bag: rows, camera", overflow="fold", min_width=16)
    for column in ("frames", "Hz", "missing", "gap", "age", "far"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in imported:
        table.add_row(f"{Path(each.bag).name}: {each.num_frames}")
        for name, report in each.streams.items():
            if name not in JOINTS:
                table.add_row(f"  {name}", *_cells(report))
    return table


def _cells(report: StreamReport) -> list[str]:
    return [
        str(report.num_messages),
        f"{1.0 / report.period:.1f}" if report.period > 0.0 else "-",
        str(report.num_missing),
        f"{1e3 * report.longest_gap:.0f} ms",
        f"{1e3 * report.worst_age:.0f} ms",
        f"{report.far_share:.1%}",
    ]


def main(config: ImportConfig) -> None:
    """Import, and tell what is in the dataset and what is not."""
    imported, left_out = import_bags(config, DUAL_PIPER)
    console = Console()
    console.print(table_of(imported))
    for each in left_out:
        console.print(f"left out: {each.reason}", markup=False, highlight=False)
    frames = sum(each.num_frames for each in imported)
    total = len(imported) + len(left_out)
    console.print(f"{config.out}: {len(imported)} of {total} bags, {frames} frames", markup=False, highlight=False)


if __name__ == "__main__":
    run_command(main, ImportConfig)
