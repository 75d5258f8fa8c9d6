"""Reading LIBERO's public demonstrations.

    data                     attributes bddl_file_name, problem_info, ... (not in regenerated files)
    data/demo_3/actions      (T, 7)
    data/demo_3/states       (T, 1 + nq + nv), the simulator before each action: time, joints, velocities
    data/demo_3/obs/...      agentview_rgb and eye_in_hand_rgb as OpenGL has them, bottom row first; ee_pos, ee_ori
                             (axis times angle), gripper_states (both fingers), joint_states (the arm's)

The published files hold observations from after each action, those regenerated for OpenVLA from before it. Which of
the two a file is, its joints tell; each frame is paired with the action that follows it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vla_policy.errors import VlaError
from vla_rl_trainer.dataset import EpisodeData
from vla_rl_trainer.libero.controller import ARM_DOFS
from vla_rl_trainer.libero.embodiment import ACTION_SIZE, LIBERO_PANDA
from vla_rl_trainer.libero.file_names import find_task, instruction_of
from vla_rl_trainer.libero.protocol import turned_half
from vla_rl_trainer.libero.suites import HORIZONS, TaskName

IMAGES = ("agentview_rgb", "eye_in_hand_rgb")
"""In the order of the robot's cameras."""
NOOP = 1e-4
"""Length of a motion, in parts of the largest, below which OpenVLA's data preparation calls it none."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """One demonstration of a file."""

    episode: EpisodeData
    num_noops: int
    """Frames left out because nothing was done."""
    is_late: bool
    """Whether the file's observations come after its actions; then its first action and last frame have no partner."""


class DemoFile:
    """An open file; a context manager."""

    def __init__(self, path: Path) -> None:
        """Open it and find its task.

        Raises:
            VlaError: no such file, none of HDF5's, not laid out like LIBERO's, of an unknown task, or h5py is missing.
        """
        try:
            import h5py  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise VlaError("HDF5 files need h5py: pip install -c constraints.txt -e '.[libero]'") from error
        if not path.is_file():
            raise VlaError(f"{path} does not exist; check its name")
        self.path = path
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise VlaError(f"{path} is no HDF5 file, or damaged; download it again") from error
        try:
            self._demos = self._find_demos()
            self.task = self._find_task()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> DemoFile:
        """Use as a context."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self._file.close()

    def __len__(self) -> int:
        """Number of demonstrations."""
        return len(self._demos)

    def demos(self, *, keep_noops: bool = False) -> Iterator[Demo]:
        """The demonstrations, in the order of their numbers.

        Raises:
            VlaError: one lacks something; the message names it.
        """
        for name in self._demos:
            yield read_demo(self._file["data"][name], f"{self.path} {name}", self.task, keep_noops)

    def _find_demos(self) -> list[str]:
        data = self._file.get("data")
        names = [name for name in getattr(data, "keys", list)() if re.fullmatch(r"demo_\d+", name)]
        if not names:
            raise VlaError(f"{self.path} has no data/demo_0 and so on; LIBERO's demonstrations are laid out like that")
        return sorted(names, key=lambda name: int(name.removeprefix("demo_")))

    def _find_task(self) -> TaskName:
        told = self._file["data"].attrs.get("bddl_file_name")
        told = told.decode() if isinstance(told, bytes) else told
        name = Path(str(told)).name if told else self.path.name
        task = find_task(name)
        if task is None:
            raise VlaError(f"{self.path} shows {name}, which is no task of {', '.join(HORIZONS)}; leave it out")
        return task


def read_demo(group: Any, owner: str, task: TaskName, keep_noops: bool) -> Demo:
    """One demonstration.

    Args:
        group: Of the file, `data/demo_0` and so on.
        owner: What it is, for errors.
        task: What it shows.
        keep_noops: Whether frames stay in which nothing is done.

    Raises:
        VlaError: something is missing or does not fit.
    """
    actions = _read(group, "actions", owner, (ACTION_SIZE,))
    length = len(actions)
    images = {
        camera: turned_half_all(_read(group, f"obs/{name}", owner, (None, None, 3), length))
        for camera, name in zip(LIBERO_PANDA.camera_names, IMAGES, strict=True)
    }
    hand, turn, fingers = (
        _read(group, f"obs/{name}", owner, (size,), length)
        for name, size in (("ee_pos", 3), ("ee_ori", 3), ("gripper_states", 2))
    )
    states = np.concatenate([hand, turn, fingers[:, :1] - fingers[:, 1:]], axis=1)
    joints = _read(group, "obs/joint_states", owner, (ARM_DOFS,), length)
    simulator = _read(group, "states", owner, (None,), length)
    late = is_late(joints, simulator[:, 1 : 1 + ARM_DOFS])
    if late:
        actions, states = actions[1:], states[:-1]
        images = {camera: frames[:-1] for camera, frames in images.items()}
    kept = np.ones(len(actions), dtype=bool) if keep_noops else ~is_noop(actions)
    if not kept.any():
        raise VlaError(f"{owner} does nothing; leave it out of the file")
    episode = EpisodeData(
        images={camera: np.ascontiguousarray(frames[kept]) for camera, frames in images.items()},
        state=states[kept].astype(np.float32),
        action=np.clip(actions[kept], -1.0, 1.0).astype(np.float32),
        instruction=instruction_of(task),
        success="rewards" not in group or bool(np.any(group["rewards"][()])),
        seed=None,
        task=str(task),
    )
    return Demo(episode=episode, num_noops=int((~kept).sum()), is_late=late)


def is_late(seen_TJ: npt.NDArray[Any], before_TJ: npt.NDArray[Any]) -> bool:
    """Whether observations come after the actions of the same row, by joints seen and those before the action."""
    if len(seen_TJ) < 2:
        return False
    return bool(np.abs(seen_TJ[:-1] - before_TJ[1:]).mean() < np.abs(seen_TJ[1:] - before_TJ[1:]).mean())


def is_noop(actions_TA: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which actions do nothing: no motion, and the gripper told what the last action that did something told it.

    As OpenVLA's data preparation has it. A policy learns to wait from such frames, and then waits for ever.
    """
    found = np.zeros(len(actions_TA), dtype=bool)
    gripper = None
    for step, action in enumerate(actions_TA):
        found[step] = np.linalg.norm(action[:-1]) < NOOP and gripper in (None, action[-1])
        gripper = gripper if found[step] else action[-1]
    return found


def turned_half_all(images_THW3: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Each image as policies see it."""
    return np.stack([turned_half(image) for image in images_THW3])


def _read(
    group: Any, name: str, owner: str, shape: tuple[int | None, ...], length: int | None = None
) -> npt.NDArray[Any]:
    """An array with `length` rows of this shape, None standing for any number."""
    if name not in group:
        raise VlaError(f"{owner} lacks {name}; LIBERO's demonstrations have it, download the file again")
    try:
        values = np.asarray(group[name][()])
    except (OSError, TypeError, AttributeError) as error:
        raise VlaError(f"{owner} has {name}, but it cannot be read ({error}); download the file again") from error
    fits = len(values.shape) == 1 + len(shape) and all(
        wanted in (None, found) for wanted, found in zip((length, *shape), values.shape, strict=True)
    )
    if not fits or not len(values):
        sizes = ", ".join("any" if one is None else str(one) for one in (length, *shape))
        raise VlaError(f"{owner} has {name} of shape {values.shape}, not ({sizes}); download the file again")
    return values
