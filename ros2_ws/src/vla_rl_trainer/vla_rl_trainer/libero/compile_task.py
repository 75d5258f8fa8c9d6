"""Compile tasks of the benchmark into the cache, once; workers then start without robosuite.

    python -m vla_rl_trainer.libero.compile_task --tasks libero_object libero_spatial/3

Every recorded initial state is paired with the fixtures of the reset of the same number after seed 0, as published
evaluations have it (seed 0, then reset and initial state for trial after trial), and stored as it is after the wait.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from vla_rl_trainer.command import run_command
from vla_rl_trainer.disk import refuse_full_disk
from vla_rl_trainer.libero import goals, meshes, stock
from vla_rl_trainer.libero.assets import find_assets, has_stand_ins
from vla_rl_trainer.libero.cache import (
    STATE,
    CompiledTask,
    default_cache,
    folder_of,
    is_cached,
    write_task,
)
from vla_rl_trainer.libero.controller import Controller, ControllerConstants
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.libero.protocol import Visuals
from vla_rl_trainer.libero.suites import HORIZONS, WAIT_ACTION, WAIT_STEPS, TaskName, expand
from vla_rl_trainer.progress import Progress

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompileConfig:
    """What to compile."""

    tasks: tuple[str, ...] = tuple(HORIZONS)
    """Suites, or single tasks such as libero_object/3."""
    visuals: Visuals = "lean"
    """stock: also keep the model as the benchmark draws it."""
    cache: Path = dataclasses.field(default_factory=default_cache)

    @property
    def names(self) -> list[TaskName]:
        """Every task asked for."""
        return [TaskName.parse(text) for text in expand(self.tasks)]


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process compiles a task, others wait for it."""
    with refuse_full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def ensure_compiled(cache: Path, task: TaskName, visuals: str) -> None:
    """Compile a task unless it is in the cache.

    Raises:
        VlaError: it is not, and the benchmark or its assets are not installed.
    """
    if is_cached(cache, task, visuals):
        return
    with _alone(cache / task.suite):
        if not is_cached(cache, task, visuals):
            _compile(cache, task, visuals)


def _compile(cache: Path, task: TaskName, visuals: str) -> None:
    environment = stock.make_environment(task)
    compiled = read_environment(environment, task)
    xml = environment.env.model.get_xml()
    original = mujoco.MjModel.from_xml_string(xml)
    original.site_rgba[:] = environment.env.sim.model.site_rgba
    target = folder_of(cache, task)
    with tempfile.TemporaryDirectory(dir=cache / task.suite) as temporary:
        folder, scratch = Path(temporary) / "task", Path(temporary) / "scratch"
        folder.mkdir()
        scratch.mkdir()
        light = meshes.lighten(mujoco.MjSpec.from_string(xml), original, scratch)
        with refuse_full_disk(folder):
            mujoco.mj_saveModel(light, str(folder / "lean.mjb"), None)
            if visuals == "stock":
                mujoco.mj_saveModel(original, str(folder / "stock.mjb"), None)
            write_task(folder, compiled)
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
    environment.close()


def read_environment(environment: Any, task: TaskName) -> CompiledTask:
    """Everything but the models: names, constants, predicates, and every initial state after the wait."""
    instruction, _, initial = stock.benchmark_task(task)
    stock.soft_reset(environment, 0)
    inner = environment.env
    constants = read_controller(inner)
    fixtures = tuple(inner.obj_body_id[name] for name in inner.fixtures_dict)
    environment.seed(0)
    settled = [_settle(environment, constants, number, state, fixtures) for number, state in enumerate(initial)]
    states, seen, poses, rotations, grippers = (np.stack(part) for part in zip(*settled, strict=True))
    assets = find_assets()
    return CompiledTask(
        name=str(task),
        instruction=instruction,
        horizon=task.horizon,
        controller=constants,
        goals=goals.read_goals(inner),
        grasp=goals.read_grasp(inner),
        lamps=goals.read_lamps(inner),
        fixtures=fixtures,
        cameras=tuple(inner.sim.model.camera_name2id(camera.name) for camera in LIBERO_PANDA.cameras),
        origin={
            "mujoco": mujoco.__version__,
            **{name: importlib.metadata.version(name) for name in ("robosuite", "bddl", "hf-libero")},
            "assets": "with stand-ins" if has_stand_ins(assets) else "LIBERO's own",
            "seed": 0,
        },
        states_NS=states,
        seen_N2Q=seen,
        fixture_poses_NF7=poses,
        goal_rotations_N33=rotations,
        grippers_N2=grippers,
    )


def read_controller(inner: Any) -> ControllerConstants:
    """Constants of the controller and gripper of an environment that has just been reset."""
    robot = inner.robots[0]
    controller, gripper = robot.controller, robot.gripper
    assert list(controller.qvel_index) == list(range(7)), "the arm's joints come first in LIBERO's models"
    assert controller.impedance_mode == "fixed" and controller.uncoupling and controller.interpolator_pos is None

    def numbers(values: Any) -> tuple[float, ...]:
        return tuple(float(value) for value in np.ravel(values))

    return ControllerConstants(
        substeps=int(inner.control_timestep / inner.model_timestep),
        site=int(inner.sim.model.site_name2id(controller.eef_name)),
        hand=int(inner.sim.model.body_name2id(robot.robot_model.eef_name)),
        fingers=tuple(int(index) for index in robot._ref_gripper_joint_pos_indexes),
        actuators=tuple(int(index) for index in robot._ref_joint_actuator_indexes),
        gripper_actuators=tuple(int(index) for index in robot._ref_joint_gripper_actuator_indexes),
        gripper_speed=float(gripper.speed),
        initial_joint=numbers(controller.initial_joint),
        goal_rotation=numbers(controller.goal_ori),
        input_low=numbers(controller.input_min),
        input_high=numbers(controller.input_max),
        output_low=numbers(controller.output_min),
        output_high=numbers(controller.output_max),
        kp=numbers(controller.kp),
        kd=numbers(controller.kd),
        torque_low=numbers(robot.torque_limits[0]),
        torque_high=numbers(robot.torque_limits[1]),
    )


def start_trial(environment: Any, number: int, state: Array, *, hard: bool = False) -> None:
    """Reset for trial `number` after seeding, set its initial state, and take the first step of the wait.

    That step is the benchmark's own: its controller acts on what it saw before the state was set.
    """
    if hard:
        environment.env.hard_reset = True
        stock.reset(environment)
    else:
        stock.soft_reset(environment, number)
        gripper = environment.env.robots[0].gripper
        gripper.current_action = np.zeros(gripper.dof)  # a scene built anew has a new gripper
    environment.set_init_state(state)
    environment.env.step(np.array(WAIT_ACTION))


def _settle(
    environment: Any, constants: ControllerConstants, number: int, initial: Array, fixtures: tuple[int, ...]
) -> tuple[Array, ...]:
    start_trial(environment, number, initial)
    inner = environment.env
    model, data = inner.sim.model._model, inner.sim.data._data
    controller = Controller(model, data, constants)
    state = controller.start()
    state.goal_rotation = np.array(inner.robots[0].controller.goal_ori)
    state.gripper = np.array(inner.robots[0].gripper.current_action, dtype=np.float64)
    seen = np.empty((2, model.nq))
    for _ in range(WAIT_STEPS - 1):
        controller.step(state, np.array(WAIT_ACTION), seen)
    physics = np.empty(mujoco.mj_stateSize(model, STATE))
    mujoco.mj_getState(model, data, physics, STATE)
    places = list(fixtures)
    poses = np.concatenate([model.body_pos[places], model.body_quat[places]], axis=1)
    return physics, seen, poses, state.goal_rotation, state.gripper


def main(config: CompileConfig) -> None:
    """Compile whatever is missing."""
    names = config.names
    with Progress("compiling LIBERO tasks", len(names)) as progress:
        for name in names:
            ensure_compiled(config.cache, name, config.visuals)
            progress.advance(note=str(name))


if __name__ == "__main__":
    run_command(main, CompileConfig)
