"""Whether all contacts found room: watched at every physics step, on the device."""

from __future__ import annotations

import math

import mujoco_warp
import warp as wp

from piper_twin.mjwarp.device import WarpConfig
from vla_policy.errors import VlaError

# Warp reads the annotations of kernels when it compiles them, and its structs are classes only to Warp.
# pyright: reportInvalidTypeForm=false, reportCallIssue=false, reportArgumentType=false, reportIndexIssue=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false
# pyright: reportAssignmentType=false

CONTACTS, PAIRS, ROWS = wp.constant(0), wp.constant(1), wp.constant(2)


@wp.kernel(enable_backward=False)
def remember(
    nacon: wp.array(dtype=int), ncollision: wp.array(dtype=int), nefc: wp.array(dtype=int), peaks: wp.array(dtype=int)
) -> None:
    """Keep the most contacts and near pairs of all worlds together, and the most constraints of any."""
    world = wp.tid()
    if world == 0:
        peaks[CONTACTS] = wp.max(peaks[CONTACTS], nacon[0])
        peaks[PAIRS] = wp.max(peaks[PAIRS], ncollision[0])
    wp.atomic_max(peaks, ROWS, nefc[world])


class Peaks:
    """Of one batch of worlds. mujoco_warp counts what finds no room, too, so it is known how much there should be."""

    def __init__(self, data: mujoco_warp.Data, task: str, config: WarpConfig) -> None:
        """Nothing was seen so far."""
        self._data, self._task, self._config = data, task, config
        self._peaks = wp.zeros(3, dtype=int)
        self.most_contacts = self.most_constraints = 0
        """Seen at one time: contacts or pairs near each other, the mean of all worlds; constraints of any world."""

    def watch(self) -> None:
        """Look at the physics step that was taken."""
        found = [self._data.nacon, self._data.ncollision, self._data.nefc]
        wp.launch(remember, dim=self._data.nworld, inputs=found, outputs=[self._peaks])

    def forget(self) -> None:
        """What was seen does not count."""
        self._peaks.zero_()

    def require_room(self) -> None:
        """Refuse to go on with contacts or constraints that were left out. Waits for the device.

        Raises:
            VlaError: a buffer was too small since the last call; says which setting to raise, and to what.
        """
        contacts, pairs, rows = (int(value) for value in self._peaks.numpy())
        self.forget()
        each = math.ceil(max(contacts, pairs) / self._data.nworld)
        self.most_contacts, self.most_constraints = max(self.most_contacts, each), max(self.most_constraints, rows)
        if max(contacts, pairs) > self._data.naconmax:
            raise VlaError(
                f"{self._task} has {each} contacts a world, and contacts_per_world is "
                f"{self._config.contacts_per_world}: some were left out; "
                f"give --warp.contacts-per-world {math.ceil(1.25 * each)}"
            )
        if rows > self._data.njmax:
            raise VlaError(
                f"a world of {self._task} has {rows} constraints, and constraints_per_world is "
                f"{self._config.constraints_per_world}: some were left out; "
                f"give --warp.constraints-per-world {math.ceil(1.25 * rows)}"
            )
