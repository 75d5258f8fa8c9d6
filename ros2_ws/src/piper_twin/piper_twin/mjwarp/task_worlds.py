"""All worlds of one task, in rows of one batch that grows when more are asked for.

B rows, K control steps, A joints, S sensor values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from piper_twin.compiled_task import CompiledTask
from piper_twin.mjwarp.command_line import CommandLines
from piper_twin.mjwarp.device import WarpConfig
from piper_twin.mjwarp.guard import BatchGuard
from piper_twin.mjwarp.lane import Lane
from piper_twin.mjwarp.memory import require_memory
from piper_twin.mjwarp.physics import Physics
from piper_twin.mjwarp.renderer import Renderer
from piper_twin.mjwarp.starts import Start
from piper_twin.robot import DUAL_PIPER
from piper_twin.task import Readings


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a chunk did to each row, on the device."""

    sent_BKA: Tensor
    """Commands the guard let through."""
    refused_B: Tensor
    success_B: Tensor
    broken_B: Tensor
    done_B: Tensor
    steps_B: Tensor
    signals_GB: Tensor
    """Whether each signal of the task was seen during the steps that count."""
    signal_names: tuple[str, ...]


class TaskWorlds:
    """Rows of one task; a row is a world's for as long as nothing else starts in it."""

    def __init__(self, compiled: CompiledTask, num_rows: int, config: WarpConfig, lane: Lane) -> None:
        """Allocate rows, each without a world.

        Raises:
            VlaError: they do not fit into the device's memory, or mujoco_warp cannot simulate the task.
        """
        require_memory(compiled, num_rows, config, lane.device)
        self.compiled = compiled
        self._config, self._lane = config, lane
        self._horizon = compiled.task.horizon
        self._physics = Physics(compiled, num_rows, config, lane)
        self._renderer: Renderer | None = None
        self._lines = CommandLines(num_rows, lane)
        self._guard = BatchGuard(num_rows, lane)
        joints, sensors = DUAL_PIPER.num_joints, compiled.model.nsensordata
        self.command_BA = torch.zeros((num_rows, joints), dtype=torch.float64, device=lane.device)
        """Last command sent."""
        self.velocity_BA = torch.zeros_like(self.command_BA)
        """Of the last command."""
        self.start_BS = torch.zeros((num_rows, sensors), device=lane.device)
        """Sensor values at the episode's start."""
        self.sensors_BS = torch.zeros_like(self.start_BS)
        """The newest."""
        self._steps_B = torch.zeros(num_rows, dtype=torch.int64, device=lane.device)
        self._broken_B = torch.zeros(num_rows, dtype=torch.bool, device=lane.device)
        self._earned_B = torch.zeros_like(self._broken_B)
        """The task's prerequisite was met at some moment."""
        self._is_blank = True
        self._columns = torch.as_tensor(compiled.joint_columns, device=lane.device)

    @property
    def num_rows(self) -> int:
        """Worlds that can live here at once."""
        return self._physics.num_rows

    def grown(self, num_rows: int) -> TaskWorlds:
        """The same worlds in a larger batch; this one is not to be used any more."""
        larger = TaskWorlds(self.compiled, num_rows, self._config, self._lane)
        larger._physics.adopt(self._physics)
        larger._lines.adopt(self._lines)
        larger._is_blank = False
        for mine, theirs in zip(larger._rows(), self._rows(), strict=True):
            mine[: self.num_rows] = theirs
        return larger

    def _rows(self) -> list[Tensor]:
        whole = [self.command_BA, self.velocity_BA, self.start_BS, self.sensors_BS]
        return [*whole, self._steps_B, self._broken_B, self._earned_B]

    def start(self, rows: Sequence[int], starts: Sequence[Start]) -> None:
        """Begin an episode in each row."""
        if self._is_blank:  # every row holds a world that could be, for all rows are stepped
            self._is_blank = False
            self.start(range(self.num_rows), [starts[0]] * self.num_rows)
        where = torch.tensor(list(rows), device=self._lane.device)
        self._physics.start(where, np.stack([one.state for one in starts]), [one.fields for one in starts])
        command = torch.as_tensor(np.stack([one.command for one in starts]), device=self._lane.device)
        sensors = torch.as_tensor(np.stack([one.sensors for one in starts]), dtype=torch.float32)
        self._lines.start(where, command, [one.variation for one in starts])
        self.command_BA[where] = command
        self.velocity_BA[where] = 0.0
        self.start_BS[where] = self.sensors_BS[where] = sensors.to(self._lane.device)
        self._steps_B[where] = 0
        self._broken_B[where] = False
        self._earned_B[where] = False

    def step(self, actions_BKA: Tensor, active_B: Tensor) -> Verdict:
        """Run a chunk of joint targets in the active rows.

        Args:
            actions_BKA: Of every row, 64 bits.
            active_B: Rows that move.
        """
        with self._lane.timed("guard"):
            sent_BKA, velocity_BA, refused_B = self._guard.filter(
                actions_BKA, self.command_BA, self.velocity_BA, active_B
            )
        with self._lane.timed("physics"):
            controls = self._lines.controls(sent_BKA, self.command_BA, active_B)
            readings_BKS, broken_B = self._physics.run(controls, active_B)
        self.command_BA, self.velocity_BA = sent_BKA[:, -1].clone(), velocity_BA
        self.sensors_BS = torch.where(active_B[:, None], readings_BKS[:, -1], self.sensors_BS)
        self._broken_B |= broken_B
        with self._lane.timed("predicates"):
            success_B, steps_B, signals = self._judge(readings_BKS, active_B)
        self._steps_B += torch.where(active_B, steps_B, 0)
        return Verdict(
            sent_BKA=sent_BKA,
            refused_B=refused_B,
            success_B=success_B,
            broken_B=self._broken_B.clone(),
            done_B=success_B | self._broken_B | (self._steps_B >= self._horizon),
            steps_B=steps_B,
            signals_GB=torch.stack(list(signals.values())),
            signal_names=tuple(signals),
        )

    def require_room(self) -> None:
        """Refuse to go on with contacts that were left out.

        Raises:
            VlaError: says which setting to raise.
        """
        self._physics.peaks.require_room()

    def _judge(self, readings_BKS: Tensor, active_B: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Success, steps that count (up to it or the horizon, none of a broken world), and what was seen in them."""
        task, layout = self.compiled.task, self.compiled.layout
        now, start = Readings(layout, readings_BKS), Readings(layout, self.start_BS[:, None])
        count = torch.arange(readings_BKS.shape[1], device=readings_BKS.device)
        left_B = torch.where(self._broken_B, 0, self._horizon - self._steps_B)
        counts_BK = count < left_B[:, None]
        hits_BK = task.success(now, start) & counts_BK
        met_BK = task.prerequisite(now, start)
        if met_BK is not None:
            earned_BK = ((met_BK & counts_BK).cumsum(dim=1) > 0) | self._earned_B[:, None]
            hits_BK &= earned_BK
            self._earned_B |= earned_BK[:, -1] & active_B
        success_B = hits_BK.any(dim=1)
        steps_B = torch.where(success_B, hits_BK.int().argmax(dim=1) + 1, counts_BK.sum(dim=1))
        counts_BK = count < steps_B[:, None]
        seen = {name: (signal & counts_BK).any(dim=1) for name, signal in task.signals(now, start).items()}
        return success_B, steps_B, seen

    def joint_states(self, rows: Tensor) -> Tensor:
        """Measured joints of some rows [rad], grippers [m], float32 (len(rows), 14)."""
        measured = self.sensors_BS[rows][:, self._columns].double()
        return (measured - self._lines.offset_BA[rows]).float()

    def render(self, rows: Tensor, without_B: Tensor | None = None) -> Tensor:
        """Images of some rows, bytes (len(rows), cameras, H, W, 3), without noise; those of `without_B` are stale."""
        if self._renderer is None:
            self._renderer = Renderer(self._physics, self._lane)
        return self._renderer.render(rows, without_B)

    def positions(self, row: int) -> npt.NDArray[np.float32]:
        """Generalised positions of a row's world."""
        return self._physics.positions(row)
