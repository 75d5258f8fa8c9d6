"""Many worlds of the twin side by side in mujoco_warp: the second backend beside `piper_twin.worlds.WorldBatch`.

The same episode is the same world here and there: starts are made by the same code, commands pass the same guard,
predicates read the same sensors. Only physics (32 instead of 64 bits) and pictures (rays instead of triangles) differ.

B slots, K control steps, A joints.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from piper_twin.compiled_task import CompiledTask
from piper_twin.episode import Episode
from piper_twin.mjwarp.device import WarpConfig, find_device
from piper_twin.mjwarp.kernel_cache import open_kernel_cache
from piper_twin.mjwarp.lane import Lane
from piper_twin.mjwarp.pixels import add_noise, average_down, noise_begins
from piper_twin.mjwarp.seats import Moved, Seat, Share
from piper_twin.mjwarp.starts import Starts
from piper_twin.mjwarp.task_worlds import TaskWorlds, Verdict
from piper_twin.robot import DUAL_PIPER
from piper_twin.worlds import ChunkOutcome, TwinConfig
from vla_policy.types import Image

Array = npt.NDArray[np.float64]


BYTES_A_LOOK = 3 * sum(camera.height * camera.width for camera in DUAL_PIPER.cameras)
"""Of all cameras of a world, as they are drawn."""


class WarpWorlds:
    """A fixed number of slots, each holding one world at a time; worlds of one task are stepped and drawn together."""

    def __init__(self, num_slots: int, config: TwinConfig, warp: WarpConfig | None = None) -> None:
        """Slots are empty until `reset`.

        Raises:
            VlaError: there is no such device.
        """
        self._warp = warp or WarpConfig()
        self.device = find_device(self._warp.device)
        """Where the worlds live."""
        open_kernel_cache(self._warp.kernel_cache)
        self._lane = Lane(self.device)
        self.num_slots = num_slots
        self.image_size = config.image_size
        self._starts = Starts(config)
        self._seats: list[Seat | None] = [None] * num_slots
        self._tasks: dict[str, TaskWorlds] = {}
        self._free: dict[str, list[int]] = {}
        """Rows of each task that hold no slot's world."""

    def world(self, slot: int) -> Seat:
        """The episode in a slot that has been reset."""
        seat = self._seats[slot]
        assert seat is not None, f"slot {slot} was never reset"
        return seat

    def instruction(self, slot: int) -> str:
        """What the policy is told in a slot that has been reset."""
        return self.world(slot).instruction

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Start an episode in each slot.

        Raises:
            VlaError: the worlds do not fit into the device's memory, or mujoco_warp cannot simulate a task.
        """
        for slot in slots:
            self._leave(slot)
        with self._lane.timed("starts"):
            begins = self._starts.of(episodes)
        for task in dict.fromkeys(episode.task for episode in episodes):
            chosen = [index for index, episode in enumerate(episodes) if episode.task == task]
            rows = self._take_rows(task, begins[chosen[0]].compiled, len(chosen))
            self._tasks[task].start(rows, [begins[index] for index in chosen])
            for row, index in zip(rows, chosen, strict=True):
                rng = episodes[index].generator("image_noise")
                self._seats[slots[index]] = Seat(episodes[index], begins[index], row, rng)

    def _leave(self, slot: int) -> None:
        seat = self._seats[slot]
        if seat is not None:
            self._free[seat.episode.task].append(seat.row)
            self._seats[slot] = None

    def _take_rows(self, task: str, compiled: CompiledTask, count: int) -> list[int]:
        free = self._free.setdefault(task, [])
        if len(free) < count:
            there = self._tasks[task].num_rows if task in self._tasks else 0
            num_rows = min(self.num_slots, 1 << (there - len(free) + count - 1).bit_length())
            with self._lane.entered():
                self._tasks[task] = (
                    self._tasks[task].grown(num_rows)
                    if there
                    else TaskWorlds(compiled, num_rows, self._warp, self._lane)
                )
            free.extend(range(there, num_rows))
        free.sort(reverse=True)
        return [free.pop() for _ in range(count)]

    def step_chunk(self, slots: Sequence[int], actions_BKA: npt.NDArray[np.floating]) -> ChunkOutcome:
        """Run a chunk of joint targets in each slot; see `WorldBatch.step_chunk`.

        Raises:
            VlaError: contacts were left out for want of room; says which setting to raise.
        """
        return self.launch_chunk(slots, actions_BKA)().outcome

    def launch_chunk(
        self, slots: Sequence[int], actions_BKA: npt.NDArray[np.floating], *, draws: bool = False
    ) -> Callable[[], Moved]:
        """Begin a chunk, and with `draws` the pictures after it; the answer waits for both.

        Worlds that are done are not drawn. Nothing here waits for the device, so a GPU runs it beside what torch is
        told meanwhile.
        """
        with self._lane.entered(joins=False):
            actions = torch.as_tensor(np.asarray(actions_BKA, dtype=np.float64), device=self.device)
            shares = self._shares(slots)
            begins = [self._noise(share) if draws else None for share in shares]
            told = [(share, self._step(share, actions[share.index])) for share in shares]
            states = self._states(shares, len(slots))
            images = (
                self._images(shares, begins, len(slots), [verdict.done_B for _, verdict in told]) if draws else None
            )

        def moved() -> Moved:
            with self._lane.entered():
                for share in shares:
                    share.worlds.require_room()
                return Moved(_outcome(told, tuple(actions.shape)), states.cpu().numpy(), images)

        return moved

    def _shares(self, slots: Sequence[int]) -> list[Share]:
        """Worlds of each task among some slots."""
        seats = [self.world(slot) for slot in slots]
        shares = []
        for task in dict.fromkeys(seat.episode.task for seat in seats):
            places = [place for place, seat in enumerate(seats) if seat.episode.task == task]
            rows = torch.tensor([seats[place].row for place in places], device=self.device)
            index = torch.tensor(places, device=self.device)
            shares.append(Share(self._tasks[task], [seats[place] for place in places], places, index, rows))
        return shares

    def _step(self, share: Share, actions_BKA: Tensor) -> Verdict:
        worlds, rows = share.worlds, share.rows
        wanted = worlds.command_BA[:, None].repeat(1, actions_BKA.shape[1], 1)
        wanted[rows] = actions_BKA
        active = torch.zeros(worlds.num_rows, dtype=torch.bool, device=self.device)
        active.index_fill_(0, rows, True)
        return worlds.step(wanted, active)

    def states(self, slots: Sequence[int]) -> Tensor:
        """Measured joint positions [rad], grippers [m], float32 (len(slots), 14), on the device."""
        with self._lane.entered():
            return self._states(self._shares(slots), len(slots))

    def _states(self, shares: list[Share], count: int) -> Tensor:
        out = torch.empty((count, DUAL_PIPER.num_joints), device=self.device)
        for share in shares:
            out[share.index] = share.worlds.joint_states(share.rows)
        return out

    def look(self, slots: Sequence[int]) -> Tensor:
        """Camera images of each slot, bytes (len(slots), cameras, image_size, image_size, 3), on the device."""
        with self._lane.entered():
            shares = self._shares(slots)
            begins = [self._noise(share) for share in shares]
            return self._images(shares, begins, len(slots), [None] * len(shares))

    def _noise(self, share: Share) -> Tensor | None:
        """Where each world's next noise begins in the record; None: its images have none."""
        if share.deviation <= 0.0:
            return None
        return noise_begins([seat.image_rng for seat in share.seats], BYTES_A_LOOK, self.device)

    def _images(
        self, shares: list[Share], begins: list[Tensor | None], count: int, without: Sequence[Tensor | None]
    ) -> Tensor:
        with self._lane.timed("images"):
            drawn = [self._drawn(*one) for one in zip(shares, begins, without, strict=True)]
            if len(drawn) == 1:
                return drawn[0]
            out = torch.empty((count, *drawn[0].shape[1:]), dtype=torch.uint8, device=self.device)
            for share, images in zip(shares, drawn, strict=True):
                out[share.index] = images
            return out

    def _drawn(self, share: Share, begins: Tensor | None, without_B: Tensor | None) -> Tensor:
        images = share.worlds.render(share.rows, without_B)
        if begins is not None:
            add_noise(images, share.deviation, begins)
        return average_down(images, self.image_size)

    def joint_states(self, slots: Sequence[int], out_BS: npt.NDArray[np.float32]) -> None:
        """Measured joint positions [rad], grippers [m], into `out_BS`."""
        out_BS[:] = self.states(slots).cpu().numpy()

    def images(self, slots: Sequence[int], out: Sequence[Image] | Image) -> None:
        """Camera images of each slot into its entry of `out` (cameras, image_size, image_size, 3)."""
        for image, drawn in zip(out, self.look(slots).cpu().numpy(), strict=True):
            image[:] = drawn

    @contextlib.contextmanager
    def timing(self) -> Iterator[dict[str, float]]:
        """Measure guard, physics, predicates, images and starts [s] of everything done within; it is slower then."""
        self._lane.seconds = {}
        try:
            yield self._lane.seconds
        finally:
            self._lane.seconds = None

    def positions(self, slot: int) -> npt.NDArray[np.float32]:
        """Generalised positions of a slot's world, as MuJoCo orders them."""
        seat = self.world(slot)
        return self._tasks[seat.episode.task].positions(seat.row)

    def close(self) -> None:
        """Free everything; the worlds are gone."""
        self._starts.close()
        self._tasks.clear()
        self._seats = [None] * self.num_slots


def _outcome(told: list[tuple[Share, Verdict]], shape: tuple[int, ...]) -> ChunkOutcome:
    """Bring the verdicts of all tasks to the host, in the order of the slots; `shape` is that of the actions."""
    columns: dict[str, Any] = {
        "sent_BKA": np.empty(shape, dtype=np.float32),
        "refused_B": np.empty(shape[0], dtype=np.int64),
        "success_B": np.empty(shape[0], dtype=bool),
        "broken_B": np.empty(shape[0], dtype=bool),
        "done_B": np.empty(shape[0], dtype=bool),
        "steps_B": np.empty(shape[0], dtype=np.int64),
    }
    signals: list[dict[str, bool]] = [{}] * shape[0]
    for share, verdict in told:
        for name, column in columns.items():
            column[share.places] = getattr(verdict, name)[share.rows].cpu().numpy()
        for place, seen in zip(share.places, verdict.signals_GB[:, share.rows].T.tolist(), strict=True):
            signals[place] = dict(zip(verdict.signal_names, seen, strict=True))
    return ChunkOutcome(dropped_B=columns.pop("broken_B"), signals=tuple(signals), **columns)
