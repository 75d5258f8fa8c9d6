"""Many worlds of one task in mujoco_warp: states in, controls through them, sensor values out.

A control period, ten physics steps, is one CUDA graph; a chunk is that graph launched once a command. As on the CPU a
chunk starts with a cold contact solver, so a world's future depends on its state and controls alone.

B worlds, T physics steps, K control steps, A controls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import mujoco
import mujoco_warp
import numpy as np
import numpy.typing as npt
import torch
import warp as wp
from torch import Tensor

from piper_twin.compiled_task import CompiledTask
from piper_twin.mjwarp.device import WarpConfig
from piper_twin.mjwarp.lane import Lane
from piper_twin.mjwarp.peaks import Peaks
from piper_twin.worlds import SUBSTEPS
from vla_policy.errors import VlaError

FIELDS = (
    "geom_rgba", "geom_matid", "geom_friction", "mat_rgba", "light_dir", "cam_pos", "cam_quat", "cam_fovy",
    "body_mass", "body_inertia",
)  # fmt: skip
"""Fields of the model that differ from world to world; `light_diffuse` besides, which the renderer alone reads."""
LARGEST = 1e10
"""A world whose positions or velocities exceed this has broken down: MuJoCo's own bound, mjMAXVAL."""


class Physics:
    """A fixed number of rows, each a world; rows that are not stepped keep their state."""

    def __init__(self, compiled: CompiledTask, num_rows: int, config: WarpConfig, lane: Lane) -> None:
        """Allocate everything; every row holds the model's own start, arms at zero.

        Raises:
            VlaError: mujoco_warp cannot simulate this model.
        """
        self.compiled, self.num_rows = compiled, num_rows
        self._config, self._lane = config, lane
        mjm = compiled.model
        with lane.entered():
            self.model = put_model(mjm)
            self.data = make_data(mjm, num_rows, config)
            self._fields = {name: _spread(self.model, name, num_rows) for name in FIELDS}
            self.light_diffuse = wp.array(np.tile(mjm.light_diffuse, (num_rows, 1, 1)), dtype=wp.vec3)
            self._fields["light_diffuse"] = wp.to_torch(self.light_diffuse)
            self._controls: Any = wp.zeros((SUBSTEPS, num_rows, mjm.nu), dtype=float)
            self.peaks = Peaks(self.data, compiled.task.name, config)
        self._qpos, self._qvel = wp.to_torch(self.data.qpos), wp.to_torch(self.data.qvel)
        self._warmstart = wp.to_torch(self.data.qacc_warmstart)
        self._sensors = wp.to_torch(self.data.sensordata)
        self._record: Any = None

    def start(self, rows: Tensor, state_BN: npt.NDArray[np.float64], fields: list[Mapping[str, Any]]) -> None:
        """Put worlds into rows.

        Args:
            rows: Which.
            state_BN: MuJoCo's full state of each.
            fields: What differs in each world's model, whole fields by name.
        """
        nq, nv = self.compiled.model.nq, self.compiled.model.nv
        for target, values in ((self._qpos, state_BN[:, 1 : 1 + nq]), (self._qvel, state_BN[:, 1 + nq : 1 + nq + nv])):
            target[rows] = torch.as_tensor(values, dtype=target.dtype, device=target.device)
        for name in fields[0]:
            target = self._fields[name]
            values = np.stack([one[name] for one in fields]).reshape(len(rows), *target.shape[1:])
            target[rows] = torch.as_tensor(values, dtype=target.dtype, device=target.device)

    def adopt(self, other: Physics) -> None:
        """Take over the worlds of a smaller one; the rows beyond them become copies of its first."""
        for mine, theirs in zip(self._kept(), other._kept(), strict=True):
            mine[:] = theirs[:1]
            mine[: other.num_rows] = theirs

    def _kept(self) -> list[Tensor]:
        return [self._qpos, self._qvel, *self._fields.values()]

    def run(self, controls_TBA: Tensor, active_B: Tensor) -> tuple[Tensor, Tensor]:
        """Step the active rows through their controls.

        Args:
            controls_TBA: Of every row at every physics step; T is a multiple of the steps a control period.
            active_B: Which rows move.

        Returns:
            Sensor values at the last physics step of each control period (B, K, num_sensors), and whether each world
            broke down (B,); one that did holds the state it began with.
        """
        with self._lane.entered():
            before = self._qpos.clone(), self._qvel.clone()
            step = self._recorded()
            self._warmstart.zero_()
            readings = []
            for period in controls_TBA.split(SUBSTEPS):
                wp.to_torch(self._controls).copy_(period)
                step()
                readings.append(self._sensors.clone())
            broken_B = self._broken()
            goes_on_B1 = (active_B & ~broken_B)[:, None]
            for state, old in zip((self._qpos, self._qvel), before, strict=True):
                state.copy_(torch.where(goes_on_B1, state, old))
            return torch.stack(readings, dim=1), broken_B & active_B

    def _recorded(self) -> Any:
        """The work of a control period; recording it does it once, so the state is put back."""
        if self._record is None:
            before = self._qpos.clone(), self._qvel.clone()
            self._record = self._lane.record(self._step_period)
            self._qpos.copy_(before[0])
            self._qvel.copy_(before[1])
            self.peaks.forget()
        return self._record

    def _step_period(self) -> None:
        for step in range(SUBSTEPS):
            wp.copy(self.data.ctrl, self._controls[step])
            mujoco_warp.step(self.model, self.data)
            self.peaks.watch()

    def _broken(self) -> Tensor:
        state = torch.cat([self._qpos, self._qvel], dim=1)
        return ~((state.abs() < LARGEST).all(dim=1))  # not a number is not less either

    def positions(self, row: int) -> npt.NDArray[np.float32]:
        """Generalised positions of one world."""
        return self._qpos[row].cpu().numpy().copy()


def put_model(mjm: mujoco.MjModel) -> mujoco_warp.Model:
    """The model on Warp's current device.

    Raises:
        VlaError: it has something that mujoco_warp does not simulate.
    """
    try:
        return mujoco_warp.put_model(mjm)
    except (NotImplementedError, ValueError) as error:
        raise VlaError(f"mujoco_warp cannot simulate this task ({error}); choose --backend mujoco for it") from error


def make_data(mjm: mujoco.MjModel, num_worlds: int, config: WarpConfig) -> mujoco_warp.Data:
    """Working space of worlds on Warp's current device. Sparse Jacobians get room for every number, so they hold."""
    return mujoco_warp.make_data(
        mjm,
        nworld=num_worlds,
        nconmax=config.contacts_per_world,
        njmax=config.constraints_per_world,
        njmax_nnz=config.constraints_per_world * mjm.nv,
    )


def bytes_of(record: Any) -> int:
    """Memory behind all arrays of a dataclass of mujoco_warp, those within it included [B]."""
    return sum(array.size * wp.types.type_size_in_bytes(array.dtype) for array in _arrays(record))


def _arrays(record: Any) -> Iterator[wp.array]:
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, wp.array):
            yield value
        elif dataclasses.is_dataclass(value):
            yield from _arrays(value)


def _spread(model: mujoco_warp.Model, name: str, num_rows: int) -> Tensor:
    """Give every world its own copy of a field; returns it as a tensor."""
    shared = getattr(model, name)
    own = wp.array(np.repeat(shared.numpy()[:1], num_rows, axis=0), dtype=shared.dtype)
    setattr(model, name, own)
    return wp.to_torch(own)
