"""The way from commands sent to the controls of the servos, for many worlds at once; see `piper_twin.command_line`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import warp as wp
from torch import Tensor

from piper_twin.cell import TIMESTEP
from piper_twin.command_line import MAX_DELAY
from piper_twin.mjwarp.lane import Lane
from piper_twin.randomization import Variation
from piper_twin.robot import DUAL_PIPER
from piper_twin.worlds import SUBSTEPS

# Warp reads the annotations of kernels when it compiles them, and its structs are classes only to Warp.
# pyright: reportInvalidTypeForm=false, reportCallIssue=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false
# pyright: reportAssignmentType=false


@wp.kernel(enable_backward=False)
def arrive(
    num_steps: int,
    substeps: int,
    sent: wp.array3d(dtype=wp.float64),
    previous: wp.array2d(dtype=wp.float64),
    offset: wp.array2d(dtype=wp.float64),
    share: wp.array2d(dtype=wp.float64),
    delay: wp.array(dtype=int),
    place: wp.array(dtype=int),
    on_the_way: wp.array3d(dtype=wp.float64),
    lagging: wp.array2d(dtype=wp.float64),
    controls: wp.array3d(dtype=float),
) -> None:
    """Controls (T, B, A) of one joint of one world: a ramp to each command, late, lagging, off by the joint's zero.

    `on_the_way` (B, MAX_DELAY, A) is a ring of `delay` values, `place` the oldest; whoever launches this moves it on.
    """
    world, joint = wp.tid()
    for step in range(num_steps):
        command = step // substeps
        before = previous[world, joint]
        if command > 0:
            before = sent[world, command - 1, joint]
        part = wp.float64(step % substeps + 1) / wp.float64(substeps)
        value = before + (sent[world, command, joint] - before) * part
        if delay[world] > 0:
            slot = (place[world] + step) % delay[world]
            late = on_the_way[world, slot, joint]
            on_the_way[world, slot, joint] = value
            value = late
        lagging[world, joint] = lagging[world, joint] + share[world, joint] * (value - lagging[world, joint])
        if share[world, joint] < wp.float64(1.0):
            value = lagging[world, joint]
        controls[step, world, joint] = float(value + offset[world, joint])


class CommandLines:
    """Of every row of a batch."""

    def __init__(self, num_rows: int, lane: Lane) -> None:
        """Every row is at rest at zero."""
        self._lane = lane
        joints, device = DUAL_PIPER.num_joints, lane.device
        self.offset_BA = torch.zeros((num_rows, joints), dtype=torch.float64, device=device)
        """Zero error of each joint [rad]."""
        self._share_BA = torch.ones_like(self.offset_BA)
        self._lagging_BA = torch.zeros_like(self.offset_BA)
        self._delay_B = torch.zeros(num_rows, dtype=torch.int32, device=device)
        self._place_B = torch.zeros_like(self._delay_B)
        self._on_the_way = torch.zeros((num_rows, MAX_DELAY, joints), dtype=torch.float64, device=device)

    def start(self, rows: Tensor, command_BA: Tensor, variations: Sequence[Variation]) -> None:
        """Let rows be at rest at a command."""
        lag = np.array([one.gripper_lag for one in variations])
        share = np.ones((len(variations), DUAL_PIPER.num_joints))
        share[:, [joint.is_gripper for joint in DUAL_PIPER.joints]] = (TIMESTEP / np.maximum(lag, TIMESTEP))[:, None]
        delay = [min(MAX_DELAY, round(one.latency / TIMESTEP)) for one in variations]
        offset = np.stack([one.joint_offset for one in variations])
        device = self._lane.device
        self.offset_BA[rows] = torch.as_tensor(offset, device=device)
        self._share_BA[rows] = torch.as_tensor(share, device=device)
        self._delay_B[rows] = torch.tensor(delay, dtype=torch.int32, device=device)
        self._place_B[rows] = 0
        self._lagging_BA[rows] = command_BA
        self._on_the_way[rows] = command_BA[:, None]

    def adopt(self, other: CommandLines) -> None:
        """Take over the rows of a smaller one."""
        for name, mine in vars(self).items():
            if isinstance(mine, Tensor):
                theirs = getattr(other, name)
                mine[: len(theirs)] = theirs

    def controls(self, sent_BKA: Tensor, previous_BA: Tensor, active_B: Tensor) -> Tensor:
        """Controls of every row at every physics step (T, B, A); rows that are not active stay as they were.

        Args:
            sent_BKA: Commands sent.
            previous_BA: The command before them.
            active_B: Which rows are told anything.
        """
        num_rows, length, joints = sent_BKA.shape
        num_steps = length * SUBSTEPS
        with self._lane.entered():
            controls = torch.empty((num_steps, num_rows, joints), dtype=torch.float32, device=self._lane.device)
            rows = (self._lagging_BA, self._on_the_way)
            before = [state.clone() for state in rows]
            inputs = [sent_BKA, previous_BA, self.offset_BA, self._share_BA, self._delay_B, self._place_B]
            wp.launch(
                arrive,
                dim=(num_rows, joints),
                inputs=[num_steps, SUBSTEPS, *(wp.from_torch(one.contiguous()) for one in inputs)],
                outputs=[wp.from_torch(one) for one in (self._on_the_way, self._lagging_BA, controls)],
            )
            for state, old in zip(rows, before, strict=True):
                state.copy_(torch.where(active_B.view(-1, *[1] * (old.ndim - 1)), state, old))
            moved = (self._place_B + num_steps) % self._delay_B.clamp(min=1)
            self._place_B[:] = torch.where(active_B, moved, self._place_B)
            return controls
