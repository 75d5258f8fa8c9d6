"""A task's model, compiled once a process, with what is needed to start a world of it and to read its sensors."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import mujoco
import numpy as np
import numpy.typing as npt

from piper_twin.cell import empty_cell
from piper_twin.robot import ARMS, DUAL_PIPER, arm_slice
from piper_twin.task import Placement, Task
from piper_twin.tasks import find_task

Array = npt.NDArray[np.float64]

STATE = mujoco.mjtState.mjSTATE_FULLPHYSICS
"""What a world's state vector holds; its first number is the time [s]."""


class CompiledTask:
    """Shared by all worlds of a task in this process; each world has a copy of `model` of its own."""

    def __init__(self, task: Task) -> None:
        """Compile the cell with the task's objects."""
        spec = empty_cell()
        task.add_objects(spec)
        self.task = task
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        """Scratch space; holds nothing between two calls."""
        self.layout = {
            self.model.sensor(i).name: slice(
                int(self.model.sensor_adr[i]), int(self.model.sensor_adr[i] + self.model.sensor_dim[i])
            )
            for i in range(self.model.nsensor)
        }
        """Sensor name to its columns."""
        self.joint_columns = np.array([self.layout[name].start for name in DUAL_PIPER.joint_names])
        """Where the 14 numbers of the robot's state stand among the sensor values."""

    def start_state(self, placements: Mapping[str, Placement], joints: Array) -> Array:
        """Physics state with the objects at `placements` and the arms at `joints` (14,)."""
        mujoco.mj_resetData(self.model, self.data)
        for arm in ARMS:
            values = joints[arm_slice(arm)]
            for number in range(6):
                self.data.joint(f"{arm}_joint{number + 1}").qpos = values[number]
            for number in (1, 2):
                self.data.joint(f"{arm}_finger{number}").qpos = values[6] / 2.0
        for body, place in placements.items():
            half = place.yaw / 2.0
            self.data.joint(body).qpos = (place.x, place.y, place.z, np.cos(half), 0.0, 0.0, np.sin(half))
        state = np.empty(mujoco.mj_stateSize(self.model, STATE))
        mujoco.mj_getState(self.model, self.data, state, STATE)
        return state


@functools.cache
def compiled_task(name: str) -> CompiledTask:
    """The compiled task of that name; one a process."""
    return CompiledTask(find_task(name))
