"""Compiled tasks on disk: what a worker needs of a task, without robosuite, bddl or torch.

    <cache>/<suite>/<index>/task.json    instruction, controller constants, predicates, where it came from
                            states.npz   for each recorded initial state: physics after the wait, fixtures, controller
                            lean.mjb     the model with decimated meshes
                            stock.mjb    the model as the benchmark draws it, where asked for

The folder is `LIBERO_CACHE`, else ~/.cache/vla-piper/libero. It can be copied to a machine that lacks the benchmark.
It holds LIBERO's meshes and textures, whose licences do not allow passing it on.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from vla_policy.errors import VlaError
from vla_rl_trainer.libero.controller import ControllerConstants
from vla_rl_trainer.libero.predicates import Goal, Grasp, JointRange, Lamp
from vla_rl_trainer.libero.suites import TaskName

Array = npt.NDArray[np.float64]

VARIABLE = "LIBERO_CACHE"
FORMAT = 2
"""Of these files; another one is compiled anew."""
STATE = mujoco.mjtState.mjSTATE_INTEGRATION


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CompiledTask:
    """One task."""

    name: str
    instruction: str
    horizon: int
    """Control steps."""
    controller: ControllerConstants
    goals: tuple[Goal, ...]
    grasp: Grasp
    lamps: tuple[Lamp, ...]
    fixtures: tuple[int, ...]
    """Bodies that each reset places anew: cabinets, stoves, racks."""
    cameras: tuple[int, ...]
    origin: dict[str, Any]
    """Versions and assets it was compiled from."""
    states_NS: Array
    """Physics (`STATE`) after the wait, for each recorded initial state."""
    seen_N2Q: Array
    """Joint positions that the first observation shows, see `Controller.step`."""
    fixture_poses_NF7: Array
    """Position and quaternion of each fixture."""
    goal_rotations_N33: Array
    """The controller's at that moment."""
    grippers_N2: Array
    """The gripper's normalised command at that moment."""

    @property
    def num_states(self) -> int:
        """Recorded initial states."""
        return len(self.states_NS)


ARRAYS = ("states_NS", "seen_N2Q", "fixture_poses_NF7", "goal_rotations_N33", "grippers_N2")


def default_cache() -> Path:
    """`LIBERO_CACHE`, else a folder in the user's cache."""
    if told := os.environ.get(VARIABLE):
        return Path(told)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vla-piper" / "libero"


def folder_of(cache: Path, task: TaskName) -> Path:
    """Where a task's files are."""
    return cache / task.suite / str(task.index)


def is_cached(cache: Path, task: TaskName, visuals: str) -> bool:
    """True when the files are there, complete, and of this version."""
    folder = folder_of(cache, task)
    try:
        about = json.loads((folder / "task.json").read_text())
    except (OSError, ValueError):
        return False
    current = about.get("format") == FORMAT and about.get("origin", {}).get("mujoco") == mujoco.__version__
    return current and (folder / f"{visuals}.mjb").is_file() and (folder / "states.npz").is_file()


def write_task(folder: Path, task: CompiledTask) -> None:
    """Write everything but the models."""
    fields = {name: value for name, value in dataclasses.asdict(task).items() if name not in ARRAYS}
    (folder / "task.json").write_text(json.dumps({"format": FORMAT, **fields}, indent=1) + "\n")
    np.savez_compressed(folder / "states.npz", **{name: getattr(task, name) for name in ARRAYS})


def read_task(cache: Path, task: TaskName) -> CompiledTask:
    """Read what `write_task` wrote.

    Raises:
        VlaError: the files are not there or damaged.
    """
    folder = folder_of(cache, task)
    try:
        fields = json.loads((folder / "task.json").read_text())
        with np.load(folder / "states.npz", allow_pickle=False) as stored:
            arrays: dict[str, Any] = {name: stored[name] for name in ARRAYS}
        fields.pop("format")
        made = {
            "controller": ControllerConstants(**_tuples(fields.pop("controller"))),
            "goals": tuple(_goal(goal) for goal in fields.pop("goals")),
            "grasp": _grasp(fields.pop("grasp")),
            "lamps": tuple(Lamp(lamp["site"], JointRange(**lamp["joint"])) for lamp in fields.pop("lamps")),
        }
        return CompiledTask(**made, **_tuples(fields), **arrays)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VlaError(f"the compiled task in {folder} cannot be read ({error}); delete the folder") from error


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _goal(fields: dict[str, Any]) -> Goal:
    joints = tuple(JointRange(**joint) for joint in fields.pop("joints"))
    return Goal(**_tuples(fields), joints=joints)


def _grasp(fields: dict[str, Any]) -> Grasp:
    objects = {name: tuple(geoms) for name, geoms in fields["objects"].items()}
    return Grasp(left=tuple(fields["left"]), right=tuple(fields["right"]), objects=objects)


def read_model(cache: Path, task: TaskName, visuals: str) -> mujoco.MjModel:
    """The compiled model.

    Raises:
        VlaError: the file is not there or damaged.
    """
    path = folder_of(cache, task) / f"{visuals}.mjb"
    try:
        return mujoco.MjModel.from_binary_path(str(path))
    except (ValueError, OSError) as error:
        raise VlaError(f"the compiled model {path} cannot be read ({error}); delete its folder") from error
