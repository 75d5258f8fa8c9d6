"""Many worlds of the twin in one process: reset, run a chunk of actions, look.

A chunk is open loop: the guard turns its actions into commands first, then `mujoco.rollout` steps all worlds through
the whole chunk in one call, predicates read the sensors it recorded, and images are drawn at the chunk's end only.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import mujoco
import mujoco.rollout
import numpy as np
import numpy.typing as npt

from piper_twin.cell import TIMESTEP
from piper_twin.command_line import CommandLine, arrive
from piper_twin.compiled_task import CompiledTask, compiled_task
from piper_twin.episode import Episode
from piper_twin.guard import Guard
from piper_twin.randomization import Randomization, Variation, draw_variation, find_level
from piper_twin.robot import ARMS, CONTROL_PERIOD, DUAL_PIPER, HOME
from piper_twin.task import Readings
from piper_twin.world_images import CAMERA_SIZE, WorldImages
from vla_policy.errors import VlaError
from vla_policy.types import Image

Array = npt.NDArray[np.float64]

SUBSTEPS = round(CONTROL_PERIOD / TIMESTEP)
"""Physics steps a control period."""
SETTLE_STEPS = 25
"""Physics steps from the drawn start to the first observation, so that objects lie still."""

_RAMP = (np.arange(1, SUBSTEPS + 1) / SUBSTEPS)[None, :, None]
"""A servo's target moves evenly from one command to the next."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TwinConfig:
    """How worlds are drawn and seen."""

    randomization: str = "off"
    """off, standard or wide."""
    image_size: int = CAMERA_SIZE
    """Side of the square images handed out [px], averaged down from the embodiment's own size."""
    images: bool = True
    """False: physics only, observations carry empty images."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        find_level(self.randomization)
        if self.image_size < 1 or CAMERA_SIZE % self.image_size:
            raise VlaError(f"image_size {self.image_size} does not divide the cameras' {CAMERA_SIZE} px")


@dataclasses.dataclass(slots=True)
class World:
    """One running episode."""

    episode: Episode
    compiled: CompiledTask
    model: mujoco.MjModel
    variation: Variation
    instruction: str
    state: Array
    command: Array
    velocity: Array
    line: CommandLine
    start: Array
    """Sensor values at the start."""
    sensors: Array
    """Sensor values at the last physics step: 4 ms before `state`, about the age of what an arm reports at 200 Hz."""
    image_rng: np.random.Generator
    steps: int = 0
    earned: bool = False
    """The task's prerequisite was met at some moment."""
    broken: bool = False
    """Physics broke down: nothing that happens from here on counts."""


def make_world(episode: Episode, level: Randomization, model: mujoco.MjModel | None = None) -> World:
    """The start of an episode, before its objects have come to rest (`SETTLE_STEPS`).

    Args:
        episode: Determines the world.
        level: How worlds differ.
        model: Copy of the task's model to write the world's looks and bodies into; a new one when None.
    """
    compiled = compiled_task(episode.task)
    scene = compiled.task.scene(episode.generator("scene"))
    model = model or copy.copy(compiled.model)
    colours = compiled.model.geom_rgba.copy()
    for geom, colour in scene.colours.items():
        colours[compiled.model.geom(geom).id, :3] = colour
    variation = draw_variation(level, compiled.model, colours, episode.generator("randomization"))
    for field, value in variation.model_fields.items():
        getattr(model, field)[:] = value
    command = np.tile(HOME, len(ARMS)) if scene.joints is None else scene.joints.copy()
    return World(
        episode=episode,
        compiled=compiled,
        model=model,
        variation=variation,
        instruction=scene.instruction,
        state=compiled.start_state(scene.placements, command + variation.joint_offset),
        command=command,
        velocity=np.zeros_like(command),
        line=CommandLine(command, variation),
        start=np.zeros(compiled.model.nsensordata),
        sensors=np.zeros(compiled.model.nsensordata),
        image_rng=episode.generator("image_noise"),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkOutcome:
    """What a chunk did to each world that was stepped."""

    success_B: npt.NDArray[np.bool_]
    done_B: npt.NDArray[np.bool_]
    """Success, horizon reached, or dropped."""
    dropped_B: npt.NDArray[np.bool_]
    """The simulation broke down: the episode counts for nothing."""
    steps_B: npt.NDArray[np.int64]
    """Control steps of this chunk that count: up to success or the horizon."""
    sent_BKA: npt.NDArray[np.float32]
    """Commands the guard let through."""
    refused_B: npt.NDArray[np.int64]
    """Actions the guard refused."""
    signals: tuple[dict[str, bool], ...]
    """For each world, whether each signal of its task was seen during the steps that count."""


class WorldBatch:
    """A fixed number of slots, each holding one world at a time."""

    def __init__(self, num_slots: int, config: TwinConfig, num_threads: int = 1) -> None:
        """Slots are empty until `reset`; worlds are stepped by `num_threads`, which changes no result."""
        self._level = find_level(config.randomization)
        self._worlds: list[World | None] = [None] * num_slots
        self._images = WorldImages(config.image_size)
        self._guard = Guard(DUAL_PIPER)
        self._rollout = mujoco.rollout.Rollout(nthread=num_threads if num_threads > 1 else 0)
        self._num_threads = num_threads
        self._spaces: dict[str, list[mujoco.MjData]] = {}
        """Where each thread computes, by task."""
        self.image_size = config.image_size
        # A world that breaks down is reported as dropped; MuJoCo would also write a log into the current folder.
        mujoco.set_mju_user_warning(_ignore)

    def world(self, slot: int) -> World:
        """The world in a slot that has been reset."""
        world = self._worlds[slot]
        assert world is not None, f"slot {slot} was never reset"
        return world

    def instruction(self, slot: int) -> str:
        """What the policy is told in a slot that has been reset."""
        return self.world(slot).instruction

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> None:
        """Start an episode in each slot."""
        for slot, episode in zip(slots, episodes, strict=True):
            self._worlds[slot] = self._make_world(slot, episode)
        worlds = [self.world(slot) for slot in slots]
        controls = np.repeat(np.stack([w.command + w.variation.joint_offset for w in worlds])[:, None], SETTLE_STEPS, 1)
        self._simulate(worlds, controls)
        for world in worlds:
            world.start = world.sensors.copy()

    def _make_world(self, slot: int, episode: Episode) -> World:
        before = self._worlds[slot]
        model = before.model if before and before.episode.task == episode.task else None
        return make_world(episode, self._level, model)

    def step_chunk(self, slots: Sequence[int], actions_BKA: npt.NDArray[np.floating]) -> ChunkOutcome:
        """Run a chunk of joint targets in each slot.

        Args:
            slots: Slots to step; each must hold an episode that is not done.
            actions_BKA: Absolute joint targets [rad], grippers [m], shape (len(slots), chunk, 14).
        """
        worlds = [self.world(slot) for slot in slots]
        sent_BKA, refused_B, controls = self._guarded_controls(worlds, np.asarray(actions_BKA, dtype=np.float64))
        sensors = self._simulate(worlds, controls)
        return self._judge(worlds, sensors, sent_BKA, refused_B)

    def _guarded_controls(self, worlds: list[World], actions_BKA: Array) -> tuple[Array, npt.NDArray[np.int64], Array]:
        """Commands the guard lets through, refusals, and the controls they become at every physics step."""
        sent = np.empty_like(actions_BKA)
        refused = np.zeros(len(worlds), dtype=np.int64)
        previous = np.stack([world.command for world in worlds])
        velocity = np.stack([world.velocity for world in worlds])
        ramps = []
        for k in range(actions_BKA.shape[1]):
            command, velocity, reasons = self._guard.filter(actions_BKA[:, k], previous, velocity, CONTROL_PERIOD)
            refused += np.array([reason is not None for reason in reasons])
            ramps.append(previous[:, None] + (command - previous)[:, None] * _RAMP)
            sent[:, k] = previous = command
        for row, world in enumerate(worlds):
            world.command, world.velocity = previous[row].copy(), velocity[row].copy()
        return sent, refused, arrive([world.line for world in worlds], np.concatenate(ramps, axis=1))

    def _simulate(self, worlds: list[World], controls: Array) -> list[Array]:
        """Step each world through its controls (B, T, 14); returns each world's sensors (T, num_sensors)."""
        sensors: list[Array] = [np.empty(0)] * len(worlds)
        for compiled in {id(world.compiled): world.compiled for world in worlds}.values():
            rows = [row for row, world in enumerate(worlds) if world.compiled is compiled]
            before = np.stack([worlds[row].state for row in rows])
            models = [worlds[row].model for row in rows]
            states, readings = self._rollout.rollout(models, self._space(compiled), before, controls[rows])
            # Where physics breaks down MuJoCo starts the world over, and the rollout ends: its clock is behind.
            late = before[:, 0] + controls.shape[1] * TIMESTEP - states[:, -1, 0] > 0.5 * TIMESTEP
            broken = late | ~np.isfinite(states[:, -1]).all(axis=1)
            for index, row in enumerate(rows):
                world = worlds[row]
                world.state, world.sensors = states[index, -1].copy(), readings[index, -1].copy()
                world.broken |= bool(broken[index])
                sensors[row] = readings[index]
        return sensors

    def _space(self, compiled: CompiledTask) -> list[mujoco.MjData]:
        name = compiled.task.name
        if name not in self._spaces:
            further = [mujoco.MjData(compiled.model) for _ in range(self._num_threads - 1)]
            self._spaces[name] = [compiled.data, *further]
        return self._spaces[name]

    def _judge(
        self, worlds: list[World], sensors: list[Array], sent_BKA: Array, refused_B: npt.NDArray[np.int64]
    ) -> ChunkOutcome:
        count = len(worlds)
        success, dropped = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        done, steps = np.zeros(count, dtype=bool), np.zeros(count, dtype=np.int64)
        signals = []
        for row, world in enumerate(worlds):
            task = world.compiled.task
            num_left = 0 if world.broken else task.horizon - world.steps
            at_steps = sensors[row][SUBSTEPS - 1 :: SUBSTEPS][:num_left]
            now, start = Readings(world.compiled.layout, at_steps), Readings(world.compiled.layout, world.start)
            dropped[row] = world.broken
            hits = np.flatnonzero(task.success(now, start) & _earned(world, now, start))
            success[row] = len(hits) > 0
            steps[row] = hits[0] + 1 if success[row] else len(at_steps)
            world.steps += int(steps[row])
            done[row] = success[row] or dropped[row] or world.steps >= task.horizon
            signals.append({name: bool(seen[: steps[row]].any()) for name, seen in task.signals(now, start).items()})
        return ChunkOutcome(
            success_B=success,
            done_B=done,
            dropped_B=dropped,
            steps_B=steps,
            sent_BKA=sent_BKA.astype(np.float32),
            refused_B=refused_B,
            signals=tuple(signals),
        )

    def joint_states(self, slots: Sequence[int], out_BS: npt.NDArray[np.float32]) -> None:
        """Measured joint positions [rad], grippers [m], into `out_BS`."""
        for row, slot in enumerate(slots):
            world = self.world(slot)
            out_BS[row] = world.sensors[world.compiled.joint_columns] - world.variation.joint_offset

    def images(self, slots: Sequence[int], out: Sequence[Image] | Image) -> None:
        """Camera images of each slot into its entry of `out` (cameras, image_size, image_size, 3)."""
        self._images.draw([self.world(slot) for slot in slots], out)

    def close(self) -> None:
        """Free what was uploaded to OpenGL."""
        self._rollout.close()
        self._images.close()


def _earned(world: World, now: Readings, start: Readings) -> npt.NDArray[np.bool_]:
    """Whether the prerequisite has been met up to each of the moments `now` (T); the world remembers it."""
    met = world.compiled.task.prerequisite(now, start)
    if met is None:
        return np.ones(len(now.values), dtype=bool)
    met = np.logical_or.accumulate(met) | world.earned
    world.earned |= bool(met.any())
    return met


def _ignore(warning: str) -> None:
    del warning
