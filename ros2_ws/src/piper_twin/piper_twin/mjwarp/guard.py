"""The guard of many robots at once: what `piper_twin.guard.Guard` decides, one thread a robot, a chunk in one call.

Limits, distances and the search along the way are those of the CPU, in 64 bits; tests hold the two against each other.
Left out is only the memory from call to call, which saves the CPU measurements and decides nothing.
"""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

from piper_twin.clearance import Clearance, GuardConfig, reaches
from piper_twin.guard import MAX_LOOKS, limits_of
from piper_twin.mjwarp.guard_kernels import MAX_WAY, Limits, Search, guard_chunk
from piper_twin.mjwarp.lane import Lane
from piper_twin.mjwarp.nearness import Postures, describe_cell
from piper_twin.robot import DUAL_PIPER


class BatchGuard:
    """Working space for a number of robots."""

    def __init__(self, num_robots: int, lane: Lane, config: GuardConfig | None = None) -> None:
        """Describe the arms; `config` defaults to `GuardConfig()`."""
        self._lane, self.num_robots = lane, num_robots
        with lane.entered():
            self._cell = describe_cell(Clearance(config or GuardConfig()))
            self._limits, self._room, self._search = Limits(), Postures(), Search()
            bounds = limits_of(DUAL_PIPER)
            for name, values in zip(("lower", "upper", "velocity", "acceleration"), bounds, strict=True):
                setattr(self._limits, name, wp.array(values, dtype=wp.float64))
            self._limits.reach = wp.array(reaches(), dtype=wp.vec3d)
            num_bodies = self._cell.body_parent.shape[0]
            self._room.path = wp.zeros((num_robots, MAX_WAY + 2, DUAL_PIPER.num_joints), dtype=wp.float64)
            self._room.body_pos = wp.zeros((num_robots, num_bodies), dtype=wp.vec3d)
            self._room.body_quat = wp.zeros((num_robots, num_bodies), dtype=wp.quatd)
            self._search.travelled = wp.zeros((num_robots, MAX_WAY + 1), dtype=wp.vec3d)
            self._search.piece = wp.zeros((num_robots, MAX_LOOKS + 3, 4), dtype=wp.vec3d)

    def filter(
        self, target_BKA: Tensor, previous_BA: Tensor, velocity_BA: Tensor, active_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Turn wanted joint positions into commands that may be sent; see `Guard.filter`.

        Args:
            target_BKA: Wanted positions [rad], [m], 64 bits.
            previous_BA: Last commands sent.
            velocity_BA: Of the last commands.
            active_B: Robots that are told anything.

        Returns:
            Commands, the last one's velocity, and how many targets were refused; unchanged where not active.
        """
        with self._lane.entered():
            wp.to_torch(self._room.path)[:, 0] = previous_BA
            velocity, new = velocity_BA.clone(), torch.empty_like(velocity_BA)
            sent = previous_BA[:, None].repeat(1, target_BKA.shape[1], 1)
            refused = torch.zeros(self.num_robots, dtype=torch.int32, device=self._lane.device)
            inputs = [wp.from_torch(one.contiguous()) for one in (active_B, target_BKA)]
            outputs = [wp.from_torch(one) for one in (velocity, new, sent, refused)]
            wp.launch(
                guard_chunk,
                dim=self.num_robots,
                inputs=[self._cell, self._limits, self._room, self._search, *inputs],
                outputs=outputs,
            )
            return sent, velocity, refused
