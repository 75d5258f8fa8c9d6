"""Every task with hold, random and expert policies; what its predicate and its signals say; its pictures."""

from __future__ import annotations

import dataclasses
import math

import mujoco
import numpy as np
import pytest
import torch

from piper_twin.belongings import BLOCK_EDGE, CAR_WIDTH
from piper_twin.compiled_task import STATE, compiled_task
from piper_twin.episode import Episode
from piper_twin.expert import commands
from piper_twin.moves import Move, ToolPose, Unreachable, nearer_arm
from piper_twin.portraits import PortraitConfig, draw_portraits
from piper_twin.props import CAN_RADIUS
from piper_twin.robot import ARMS, DUAL_PIPER, HOME
from piper_twin.task import Placement, Readings
from piper_twin.tasks import TASKS, find_task
from piper_twin.tasks.beat_hammer_block import HIT
from piper_twin.tasks.play import PLAY_TASKS
from piper_twin.worlds import TwinConfig, WorldBatch
from vla_policy.errors import VlaError

pytestmark = pytest.mark.sim

BENCHMARK = tuple(TASKS)
SOME_PLAY = ("play_reach_block", "play_lift_ball", "play_push_drum")
CHUNK = 8
NUM_SEEDS = 6
OBJECTS = {
    "click_bell": ("bell",),
    "place_empty_cup": ("cup", "coaster"),
    "pick_bottle": ("bottle",),
    "stack_bowls": ("bowl1", "bowl2"),
    "move_can_pot": ("can", "pot"),
    "handover_mic": ("mic",),
    "handover_block": ("block", "pad"),
    "blocks_rank_rgb": ("red", "green", "blue"),
    "put_bottles_dustbin": ("bottle1", "bottle2", "bottle3", "bin"),
    "blocks_stack": ("red", "green", "blue"),
    "shoe_place": ("shoe", "mat"),
    "place_a2b_left": ("car", "clock"),
    "place_a2b_right": ("car", "clock"),
    "beat_hammer_block": ("hammer", "block"),
    "pick_dual_bottles": ("bottle1", "bottle2"),
    "lift_pot": ("pot",),
    "place_phone_stand": ("phone", "stand"),
    "move_can_pot_strict": ("can", "pot"),
    "place_a2b_left_strict": ("car", "clock"),
    "place_a2b_right_strict": ("car", "clock"),
}
PLACING = ("place_empty_cup", "stack_bowls", "move_can_pot", "shoe_place", "place_phone_stand")
STRICT = tuple(name for name in BENCHMARK if name.endswith("_strict"))


def start_worlds(name, seeds=range(NUM_SEEDS), randomization="standard"):
    worlds = WorldBatch(len(seeds), TwinConfig(randomization=randomization))
    worlds.reset(range(len(seeds)), [Episode(name, seed, "evaluation") for seed in seeds])
    return worlds


def hold(state_BS, rng):
    del rng
    return np.repeat(state_BS[:, None], CHUNK, axis=1)


def wander(state_BS, rng):
    targets = state_BS[:, None] + rng.normal(0.0, 0.3, (len(state_BS), 1, state_BS.shape[1]))
    targets[..., 6::7] = rng.choice((0.0, 0.07), targets[..., 6::7].shape)
    return np.repeat(targets, CHUNK, axis=1)


def run_policy(name, policy):
    """Slots that succeed, and all sensor values at the end."""
    worlds = start_worlds(name)
    rng, running, successes = np.random.default_rng(0), list(range(NUM_SEEDS)), []
    for _ in range(math.ceil(find_task(name).horizon / CHUNK)):
        state_BS = np.empty((len(running), DUAL_PIPER.num_joints), dtype=np.float32)
        worlds.joint_states(running, state_BS)
        assert np.isfinite(state_BS).all()
        outcome = worlds.step_chunk(running, policy(state_BS.astype(np.float64), rng))
        assert not outcome.dropped_B.any()
        successes += [slot for slot, success in zip(running, outcome.success_B, strict=True) if success]
        running = [slot for slot, done in zip(running, outcome.done_B, strict=True) if not done]
        if not running:
            break
    assert not running, "the horizon ends every episode"
    sensors = [worlds.world(slot).sensors.copy() for slot in range(NUM_SEEDS)]
    worlds.close()
    return successes, sensors


def run_plan(worlds, plan):
    """Step slot 0 through a plan; success, signals seen, and the sensor values of every step."""
    world, seen, rows, success = worlds.world(0), set(), [worlds.world(0).sensors.copy()], False
    for row in plan[: world.compiled.task.horizon]:
        outcome = worlds.step_chunk([0], row[None, None])
        seen |= {name for name, value in outcome.signals[0].items() if value}
        rows.append(world.sensors.copy())
        success = bool(outcome.success_B[0])
        if outcome.done_B[0]:
            break
    return success, seen, np.array(rows)


def run_expert(name, seed):
    worlds = start_worlds(name, [seed])
    world = worlds.world(0)
    start = Readings(world.compiled.layout, world.start)
    try:
        plan = commands(world.compiled.task.plan(start), world.command)
    except Unreachable:
        plan = np.empty((0, DUAL_PIPER.num_joints))
    success, seen, rows = run_plan(worlds, plan)
    worlds.close()
    return success, seen, rows, world


@pytest.mark.parametrize("name", [*BENCHMARK, *SOME_PLAY])
def test_every_task_runs_with_hold_random_and_expert(name):
    held, _ = run_policy(name, hold)
    assert held == []
    flailed, sensors = run_policy(name, wander)
    assert name not in BENCHMARK or flailed == []
    assert all(np.isfinite(values).all() for values in sensors)
    _, again = run_policy(name, wander)
    np.testing.assert_array_equal(np.concatenate(sensors), np.concatenate(again))
    experts = [run_expert(name, seed)[0] for seed in range(NUM_SEEDS)]
    assert sum(experts) >= (NUM_SEEDS if name in BENCHMARK else NUM_SEEDS - 2)


@pytest.mark.parametrize("name", BENCHMARK)
def test_observations_have_their_shapes_and_show_the_objects(name):
    worlds = start_worlds(name, [1], randomization="off")
    images = np.zeros((1, len(DUAL_PIPER.cameras), 128, 128, 3), dtype=np.uint8)
    worlds.images([0], list(images))
    assert all(image.std() > 5.0 for image in images[0])
    world = worlds.world(0)
    world.model.geom_rgba[world.model.geom_group == 0, 3] = 0.0
    without = np.zeros_like(images)
    worlds.images([0], list(without))
    assert (images[0, 0] != without[0, 0]).any(axis=-1).sum() > 30, "the head camera sees the objects"
    worlds.close()


@pytest.mark.parametrize("name", BENCHMARK)
def test_objects_at_rest_stay_at_rest(name):
    worlds = start_worlds(name, [2], randomization="off")
    world = worlds.world(0)
    start = Readings(world.compiled.layout, world.start)
    worlds.step_chunk([0], np.tile(HOME, (1, 125, len(ARMS))))
    now = Readings(world.compiled.layout, world.sensors)
    for body in OBJECTS[name]:
        np.testing.assert_allclose(now[f"{body}_position"], start[f"{body}_position"], atol=5e-4)
        assert now.z(f"{body}_up") > 0.9999
        assert now.speed(f"{body}_velocity") < 1e-3
    worlds.close()


@pytest.mark.parametrize("name", BENCHMARK)
def test_predicates_agree_between_numpy_and_torch(name):
    success, _, rows, world = run_expert(name, 0)
    task, layout = world.compiled.task, world.compiled.layout
    assert success
    values = np.stack([rows, rows[::-1]])  # two worlds: (2, T, sensors)
    ours = Readings(layout, values), Readings(layout, world.start)
    theirs = Readings(layout, torch.from_numpy(values.copy())), Readings(layout, torch.from_numpy(world.start))
    expected = task.success(*ours)
    assert expected.shape == values.shape[:2]
    assert expected.any()
    np.testing.assert_array_equal(task.success(*theirs).numpy(), expected)
    for signal, value in task.signals(*ours).items():
        assert value.shape == values.shape[:2]
        np.testing.assert_array_equal(task.signals(*theirs)[signal].numpy(), value)


@pytest.mark.parametrize("name", BENCHMARK)
def test_instructions_are_several_and_all_are_drawn(name):
    task = TASKS[name]
    assert len(set(task.instructions)) >= 4
    drawn = {task.scene(Episode(name, seed).generator("scene")).instruction for seed in range(60)}
    assert drawn == set(task.instructions)


@pytest.mark.parametrize("name", BENCHMARK)
def test_starts_are_within_reach_of_either_arm_and_differ(name):
    places = []
    for seed in range(60):
        scene = TASKS[name].scene(Episode(name, seed).generator("scene"))
        assert set(scene.placements) == set(OBJECTS[name])
        for place in scene.placements.values():
            assert 0.20 <= place.x <= 0.46
            assert abs(place.y) <= 0.36
        places.append(scene.placements[OBJECTS[name][0]])
    assert {nearer_arm(place.y) for place in places} == set(ARMS)
    assert len({(place.x, place.y) for place in places}) == len(places)


@pytest.mark.parametrize("name", [*PLACING, "place_a2b_left", "place_a2b_right"])
def test_placing_counts_only_after_letting_go(name):
    """The object stands where it belongs before the gripper opens; success waits for the gripper."""
    _, _, rows, world = run_expert(name, 1)
    now, start = Readings(world.compiled.layout, rows), Readings(world.compiled.layout, world.start)
    grasped = world.compiled.task.signals(now, start)["grasped"]
    success = world.compiled.task.success(now, start)
    assert success[-1]
    assert not (success & grasped).any()


@pytest.mark.parametrize("name", [name for name in BENCHMARK if name != "click_bell"])
def test_the_expert_is_seen_to_grasp_and_lift_and_not_to_push(name):
    _, seen, _, _ = run_expert(name, 3)
    assert seen >= {"grasped", "lifted"}
    assert "pushed" not in seen


PUSHES = {
    "move_can_pot": ("can", (CAN_RADIUS, CAN_RADIUS), "pot", 0.13),
    "place_a2b_left": ("car", (0.04, CAR_WIDTH / 2), "clock", 0.115),
    "place_a2b_right": ("car", (0.04, CAR_WIDTH / 2), "clock", 0.115),
}
"""Task to what is pushed, half its length and width, beside what, and how far beside it [m]."""


def push(name, start):
    """Behind the body, low, closed: along a line to its place beside the other one."""
    body, half_size, other, aside = PUSHES[name]
    x, y = (float(value) for value in start[f"{body}_position"][:2])
    other_x, other_y = (float(value) for value in start[f"{other}_position"][:2])
    side = getattr(find_task(name), "side", math.copysign(1.0, y - other_y))
    goal = np.array((other_x, other_y + side * aside))
    way = (goal - (x, y)) / np.hypot(*(goal - (x, y)))
    along = way @ start[f"{body}_forward"][:2]
    contact = math.hypot(half_size[0] * along, half_size[1] * math.sqrt(1.0 - along**2)) + 0.016  # a finger's thickness
    behind, ahead = np.array((x, y)) - (contact + 0.012) * way, goal - contact * way
    lean = math.atan2(way[1], way[0])
    yaw = max((lean + 0.5 * math.pi, lean - 0.5 * math.pi), key=math.cos)
    begin = ToolPose(*behind, z=0.02, yaw=yaw, opening=0.0)
    end = dataclasses.replace(begin, x=float(ahead[0]), y=float(ahead[1]))
    above = dataclasses.replace(begin, z=0.16)
    arm = nearer_arm(y)
    return [
        Move({arm: above}),
        Move({arm: begin}, straight=True),
        Move({arm: end}, straight=True, speed=0.5, wait=0.4),
    ]


@pytest.mark.parametrize("name", PUSHES)
def test_pushing_it_there_counts_and_is_told_apart(name):
    outcomes = []
    for seed in range(2 * NUM_SEEDS):  # in some worlds the other thing is in the way, or the arm's end is near
        worlds = start_worlds(name, [seed], randomization="off")
        world = worlds.world(0)
        try:
            plan = commands(push(name, Readings(world.compiled.layout, world.start)), world.command)
        except Unreachable:
            continue
        success, seen, _ = run_plan(worlds, plan)
        worlds.close()
        if success:
            outcomes.append(seen)
    assert len(outcomes) >= 2
    assert all("pushed" in seen and "lifted" not in seen for seen in outcomes)


def settle(name, placements):
    """Readings half a second after the objects were put at `placements`, and those before."""
    compiled = compiled_task(name)
    data = mujoco.MjData(compiled.model)
    state = compiled.start_state(placements, np.tile(HOME, len(ARMS)))
    mujoco.mj_setState(compiled.model, data, state, STATE)
    mujoco.mj_forward(compiled.model, data)
    start = data.sensordata.copy()
    data.ctrl[:] = np.tile(HOME, len(ARMS))
    mujoco.mj_step(compiled.model, data, nstep=125)
    return Readings(compiled.layout, data.sensordata.copy()), Readings(compiled.layout, start)


def test_a_hammer_that_lies_on_the_block_does_not_beat_it():
    now, start = settle("beat_hammer_block", {"hammer": Placement(0.33, 0.2, 0.0405), "block": Placement(0.33, 0.2)})
    assert now.z("hammer_position") == pytest.approx(BLOCK_EDGE, abs=0.002)
    assert 0.5 < now.scalar("block_top") < HIT / 2
    assert not find_task("beat_hammer_block").success(now, start)


@pytest.mark.parametrize("name", ["lift_pot", "pick_dual_bottles"])
def test_what_takes_two_arms_is_not_done_with_one(name):
    worlds = start_worlds(name, [0])
    world = worlds.world(0)
    plan = commands(world.compiled.task.plan(Readings(world.compiled.layout, world.start)), world.command)
    plan[:, : plan.shape[1] // 2] = world.command[: plan.shape[1] // 2]
    success, seen, _ = run_plan(worlds, plan)
    worlds.close()
    assert not success
    assert "grasped" in seen


@pytest.mark.parametrize("name", STRICT)
def test_pushing_it_there_does_not_count_where_it_must_be_carried(name):
    there = 0
    for seed in range(2 * NUM_SEEDS):
        worlds = start_worlds(name, [seed], randomization="off")
        world = worlds.world(0)
        start = Readings(world.compiled.layout, world.start)
        try:
            plan = commands(push(name.removesuffix("_strict"), start), world.command)
        except Unreachable:
            continue
        success, seen, _ = run_plan(worlds, plan)
        there += bool(world.compiled.task.success(Readings(world.compiled.layout, world.sensors), start))
        worlds.close()
        assert not success
        assert "lifted" not in seen
    assert there >= 2, "it ends where it belongs"


@pytest.mark.parametrize("name", STRICT)
def test_a_strict_task_remembers_from_chunk_to_chunk_that_the_object_was_carried(name):
    worlds = start_worlds(name, [0])
    world = worlds.world(0)
    plan = commands(world.compiled.task.plan(Readings(world.compiled.layout, world.start)), world.command)
    earned, done = [], False
    for begin in range(0, len(plan), CHUNK):
        outcome = worlds.step_chunk([0], plan[None, begin : begin + CHUNK])
        earned.append(world.earned)
        done = bool(outcome.done_B[0])
        if done:
            break
    assert done
    assert outcome.success_B[0]
    assert earned.index(True) < len(earned) - 1, "carried in an earlier chunk than the last"
    worlds.reset([0], [Episode(name, 0, "evaluation")])
    assert not worlds.world(0).earned
    worlds.close()


def test_play_has_none_of_the_benchmark_s_objects():
    names = {
        "bell",
        "cup",
        "coaster",
        "bottle",
        "bowl",
        "can",
        "pot",
        "mug",
        "car",
        "clock",
        "hammer",
        "phone",
        "stand",
    }
    for task in PLAY_TASKS.values():
        words = {word for instruction in task.instructions for word in instruction.split()}
        scene = task.scene(Episode(task.name, 0, "pretraining").generator("scene"))
        assert not names & (words | set(scene.instruction.split()) | set(scene.placements))


def test_portraits_are_written(tmp_path):
    config = PortraitConfig(out=tmp_path / "images", tasks=("click_bell", "stack_bowls"), width=320, height=256)
    files = draw_portraits(config)
    assert [file.name for file in files] == ["click_bell.png", "stack_bowls.png"]
    assert all(file.stat().st_size > 10_000 for file in files)


def test_portraits_refuse_unknown_tasks_and_tiny_sizes(tmp_path):
    with pytest.raises(VlaError, match="does not exist"):
        draw_portraits(PortraitConfig(out=tmp_path / "images", tasks=("fold_towel",)))
    assert not (tmp_path / "images").exists()
    with pytest.raises(VlaError, match="too small"):
        PortraitConfig(out=tmp_path, width=100)
