"""Many worlds of the twin in one process: reset, run a chunk of actions, look.

A chunk is open loop: the guard turns its actions into commands first, then `mujoco.rollout` steps all worlds through
the whole chunk in one call, predicates read the sensors it recorded, and images are drawn at the chunk's end only.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Mapping, Sequence

import mujoco
import mujoco.rollout
import numpy as np
import numpy.typing as npt

from piper_twin.camera_renderer import CameraRenderer
from piper_twin.cell import TIMESTEP, empty_cell
from piper_twin.episode import Episode
from piper_twin.guard import Guard
from piper_twin.randomization import Variation, draw_variation, find_level
from piper_twin.robot import ARMS, CONTROL_PERIOD, DOF, DUAL_PIPER, HOME, arm_slice
from piper_twin.task import Placement, Readings, Task
from piper_twin.tasks import find_task
from vla_policy.errors import VlaError
from vla_policy.types import Image

Array = npt.NDArray[np.float64]

SUBSTEPS = round(CONTROL_PERIOD / TIMESTEP)
"""Physics steps a control period."""
SETTLE_STEPS = 25
"""Physics steps from the drawn start to the first observation, so that objects lie still."""
MAX_DELAY = 40
"""Longest command latency that can be simulated [physics steps]."""

_STATE = mujoco.mjtState.mjSTATE_FULLPHYSICS


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TwinConfig:
    """How worlds are drawn and seen."""

    randomization: str = "off"
    """off, standard or wide."""
    image_size: int | None = None
    """Side of the square images handed out [px], averaged down from the embodiment's own size; None: that size."""
    images: bool = True
    """False: physics only, observations carry empty images."""


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
    delayed: Array
    """Controls sent but not yet arrived, shape (MAX_DELAY, 14)."""
    gripper: Array
    """Where the lagging grippers are told to be [m], shape (2,)."""
    start: Array
    """Sensor values at the start."""
    sensors: Array
    """Sensor values now."""
    image_rng: np.random.Generator
    steps: int = 0


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


class CompiledTask:
    """A task's model, compiled once a process, and where its sensors stand."""

    def __init__(self, task: Task) -> None:
        """Compile the cell with the task's objects."""
        spec = empty_cell()
        task.add_objects(spec)
        self.task = task
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self.state_size = mujoco.mj_stateSize(self.model, _STATE)
        self.layout = {
            self.model.sensor(i).name: slice(
                int(self.model.sensor_adr[i]), int(self.model.sensor_adr[i] + self.model.sensor_dim[i])
            )
            for i in range(self.model.nsensor)
        }
        joints = [self.layout[name].start for name in DUAL_PIPER.joint_names]
        self.joint_columns = np.array(joints)

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
        state = np.empty(self.state_size)
        mujoco.mj_getState(self.model, self.data, state, _STATE)
        return state


@functools.lru_cache(maxsize=None)
def compiled_task(name: str) -> CompiledTask:
    """The compiled task of that name; one a process."""
    return CompiledTask(find_task(name))


class WorldBatch:
    """A fixed number of slots, each holding one world at a time."""

    def __init__(self, num_slots: int, config: TwinConfig, num_threads: int = 1) -> None:
        """Slots are empty until `reset`; `num_threads` step physics."""
        self._config = config
        self._level = find_level(config.randomization)
        self._worlds: list[World | None] = [None] * num_slots
        self._models: list[dict[str, mujoco.MjModel]] = [{} for _ in range(num_slots)]
        self._renderers: dict[str, CameraRenderer] = {}
        self._guard = Guard(DUAL_PIPER)
        self._rollout = mujoco.rollout.Rollout(nthread=num_threads)
        self._num_threads = max(1, num_threads)
        self._camera_size = DUAL_PIPER.cameras[0].height
        self.image_size = config.image_size or self._camera_size
        if self._camera_size % self.image_size:
            raise VlaError(f"image_size {self.image_size} does not divide the cameras' {self._camera_size} px")
        self._frame = np.empty((len(DUAL_PIPER.cameras), self._camera_size, self._camera_size, 3), dtype=np.uint8)

    def world(self, slot: int) -> World:
        """The world in a slot that has been reset."""
        world = self._worlds[slot]
        assert world is not None, f"slot {slot} was never reset"
        return world

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
        compiled = compiled_task(episode.task)
        scene = compiled.task.scene(episode.generator("scene"))
        model = self._models[slot].setdefault(episode.task, copy.copy(compiled.model))
        colours = compiled.model.geom_rgba.copy()
        for geom, colour in scene.colours.items():
            colours[compiled.model.geom(geom).id, :3] = colour
        variation = draw_variation(self._level, compiled.model, colours, episode.generator("randomization"))
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
            delayed=np.repeat(command[None], MAX_DELAY, axis=0),
            gripper=command.reshape(len(ARMS), DOF)[:, 6].copy(),
            start=np.zeros(compiled.model.nsensordata),
            sensors=np.zeros(compiled.model.nsensordata),
            image_rng=episode.generator("image_noise"),
        )

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
        ramp = (np.arange(1, SUBSTEPS + 1) / SUBSTEPS)[None, :, None]
        for k in range(actions_BKA.shape[1]):
            command, velocity, reasons = self._guard.filter(actions_BKA[:, k], previous, velocity, CONTROL_PERIOD)
            refused += np.array([reason is not None for reason in reasons])
            ramps.append(previous[:, None] + (command - previous)[:, None] * ramp)
            sent[:, k] = previous = command
        controls = np.concatenate(ramps, axis=1)
        for row, world in enumerate(worlds):
            world.command, world.velocity = previous[row], velocity[row]
            controls[row] = _arrive(world, controls[row])
        return sent, refused, controls

    def _simulate(self, worlds: list[World], controls: Array) -> list[Array]:
        """Step each world through its controls (B, T, 14); returns each world's sensors (T, num_sensors)."""
        sensors: list[Array] = [np.empty(0)] * len(worlds)
        for compiled in {id(world.compiled): world.compiled for world in worlds}.values():
            rows = [row for row, world in enumerate(worlds) if world.compiled is compiled]
            datas = [compiled.data] + [mujoco.MjData(compiled.model) for _ in range(self._num_threads - 1)]
            states, readings = self._rollout.rollout(
                [worlds[row].model for row in rows],
                datas,
                np.stack([worlds[row].state for row in rows]),
                np.ascontiguousarray(controls[rows]),
            )
            for index, row in enumerate(rows):
                worlds[row].state = states[index, -1].copy()
                worlds[row].sensors = readings[index, -1].copy()
                sensors[row] = readings[index]
        return sensors

    def _judge(
        self, worlds: list[World], sensors: list[Array], sent_BKA: Array, refused_B: npt.NDArray[np.int64]
    ) -> ChunkOutcome:
        count = len(worlds)
        success, dropped = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        done, steps = np.zeros(count, dtype=bool), np.zeros(count, dtype=np.int64)
        signals = []
        for row, world in enumerate(worlds):
            task = world.compiled.task
            at_steps = sensors[row][SUBSTEPS - 1 :: SUBSTEPS][: task.horizon - world.steps]
            now, start = Readings(world.compiled.layout, at_steps), Readings(world.compiled.layout, world.start)
            dropped[row] = not np.isfinite(world.state).all()
            hits = np.flatnonzero(task.success(now, start))
            success[row] = len(hits) > 0 and not dropped[row]
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

    def images(self, slots: Sequence[int], out_BCHW3: Image) -> None:
        """Camera images of each slot into `out_BCHW3` (len(slots), cameras, image_size, image_size, 3)."""
        for row, slot in enumerate(slots):
            world = self.world(slot)
            self._draw(world)
            if world.variation.image_noise > 0.0:
                noise = world.image_rng.normal(0.0, world.variation.image_noise, self._frame.shape)
                self._frame[:] = np.clip(self._frame + noise, 0, 255)
            out_BCHW3[row] = average_down(self._frame, self.image_size)

    def _draw(self, world: World) -> None:
        name = world.compiled.task.name
        if name not in self._renderers:
            self._renderers[name] = CameraRenderer(world.compiled.model, self._camera_size, self._camera_size)
        data = world.compiled.data
        mujoco.mj_setState(world.model, data, world.state, _STATE)
        mujoco.mj_kinematics(world.model, data)
        mujoco.mj_comPos(world.model, data)
        mujoco.mj_camlight(world.model, data)
        self._renderers[name].render(world.model, data, DUAL_PIPER.cameras, self._frame)

    def close(self) -> None:
        """Free threads and OpenGL contexts."""
        self._rollout.close()
        for renderer in self._renderers.values():
            renderer.close()


def average_down(images: Image, size: int) -> Image:
    """Square images (..., H, H, 3) as (..., size, size, 3), each pixel the mean of a block of `H / size` squared."""
    factor = images.shape[-2] // size
    if factor == 1:
        return images
    rows = sum(images[..., offset::factor, :, :].astype(np.uint16) for offset in range(factor))
    blocks = sum(rows[..., offset::factor, :] for offset in range(factor))
    return ((blocks + factor * factor // 2) // (factor * factor)).astype(np.uint8)


def _arrive(world: World, sent: Array) -> Array:
    """Controls (T, 14) as they arrive at the servos: late, with lagging grippers, and off by the joints' zero error."""
    delay = min(MAX_DELAY, round(world.variation.latency / TIMESTEP))
    queue = np.concatenate([world.delayed, sent])
    world.delayed = queue[-MAX_DELAY:]
    arrived = queue[MAX_DELAY - delay : MAX_DELAY - delay + len(sent)] + world.variation.joint_offset
    if world.variation.gripper_lag > TIMESTEP:
        share = TIMESTEP / world.variation.gripper_lag
        columns = [arm_slice(arm).stop - 1 for arm in ARMS]
        for row in arrived:
            world.gripper += share * (row[columns] - world.gripper)
            row[columns] = world.gripper
    return arrived
