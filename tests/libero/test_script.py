"""The script that makes demonstrations, in a toy world: a hand that follows, a block that sticks between fingers."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_rl_trainer.libero import script
from vla_rl_trainer.libero.demonstrate import FIRST, WAYS, ScriptedDemonstration, placement, ways_for
from vla_rl_trainer.libero.predicates import Goal, JointRange
from vla_rl_trainer.libero.script import CLOSED, OPEN, Sight, Way, grasp_position, motion, pick_and_place
from vla_rl_trainer.libero.suites import TaskName
from vla_rl_trainer.libero.tries import Try, summarise, table_of

DOWN = np.diag([1.0, -1.0, -1.0])
SIGNS = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))


def about(axis, angle):
    """Rotation matrix by Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


class Toy:
    """A block of half sides `size` on a floor at 0, fingers that close along the hand's second axis."""

    def __init__(self, size=(0.03, 0.02, 0.04), floor=0.0):
        self.size, self.floor = np.array(size), floor
        self.hand, self.rotation, self.opening = np.array([-0.15, 0.0, 0.25]), DOWN.copy(), 0.08
        self.block = np.array([0.05, -0.1, self.size[2]])
        self.goal = np.array([0.0, 0.25, 0.14])
        self.actions = []

    def look(self):
        return Sight(
            hand=self.hand.copy(), rotation=self.rotation.copy(), fingers=-self.rotation[:, 1], opening=self.opening,
            object=self.block.copy(), corners_N3=self.block + SIGNS * self.size, goal=self.goal.copy(),
        )  # fmt: skip

    def act(self, action):
        self.actions.append(action)
        offset = np.abs(self.hand - self.block)
        is_around = (offset[:2] < 0.01).all() and offset[2] < self.size[2]
        narrowest = 2.0 * np.abs(self.rotation[:, 1]) @ self.size if is_around else 0.0
        before = self.hand.copy()
        self.hand = self.hand + 0.4 * 0.05 * action[:3]
        self.hand[2] = max(self.hand[2], self.floor)
        turn = 0.5 * action[3:6].astype(float)
        angle = np.linalg.norm(turn)
        if angle:
            self.rotation = about(turn / angle, 0.5 * angle) @ self.rotation
        self.opening = np.clip(self.opening + (-0.02 if action[6] > 0 else 0.02), narrowest, 0.08)
        if is_around and action[6] > 0 and self.opening <= narrowest + 1e-9:
            self.block = self.block + self.hand - before
        elif action[6] < 0:
            self.block[2] = max(self.size[2], self.block[2] - 0.05)

    def play(self, way=None):
        for action in pick_and_place(self.look, way or Way()):
            self.act(action)
        return np.array(self.actions)


def test_the_block_is_carried_over_whatever_is_lower_than_the_goal_and_let_go_there():
    toy = Toy()
    start, lowest = toy.block.copy(), np.inf
    for action in pick_and_place(toy.look, Way()):
        toy.act(action)
        is_on_the_way = all(np.linalg.norm((toy.block - end)[:2]) > 0.03 for end in (start, toy.goal))
        lowest = min(lowest, toy.block[2] if is_on_the_way else np.inf)
    assert toy.goal[2] + toy.size[2] < lowest < np.inf, "its bottom is higher than the goal"
    assert np.linalg.norm(toy.block[:2] - toy.goal[:2]) < 0.01
    assert toy.block[2] == toy.size[2], "it was let go"
    assert toy.hand[2] > toy.goal[2] + script.AWAY / 2.0, "the hand is out of the way"
    assert len(toy.actions) < 150


def test_actions_are_what_the_benchmark_takes_to_the_last_bit():
    actions = Toy().play(Way(turn=0.5))
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1.0
    assert set(actions[:, 6]) == {OPEN, CLOSED}
    assert (np.diff(actions[:, 6]) != 0).sum() == 2, "the fingers close once and open once"


def test_the_same_world_is_played_alike():
    np.testing.assert_array_equal(Toy().play(), Toy().play())


@pytest.mark.parametrize("turn", [0.5, -0.2, math.pi / 2])
def test_the_hand_turns_about_the_vertical_and_no_other_way(turn):
    toy = Toy()
    toy.play(Way(turn=turn))
    np.testing.assert_allclose(toy.rotation, about((0, 0, 1), turn) @ DOWN, atol=script.SAME_ROTATION)


def test_a_hand_that_need_not_turn_is_not_told_to():
    assert not Toy().play()[:, 3:6].any()


def test_a_hand_that_cannot_get_there_goes_on_with_what_is_next():
    toy = Toy(floor=0.1)  # the block is out of reach
    actions = toy.play()
    assert len(actions) < 150
    assert toy.block[2] == toy.size[2]


def test_a_motion_is_a_straight_line_however_far_it_is():
    sight = Toy().look()
    far, near = np.array([0.3, 0.6, -0.15]), np.array([0.003, 0.006, -0.0015])
    for way in (far, near):
        action = motion(sight, sight.hand + way, sight.rotation, CLOSED)
        np.testing.assert_allclose(action[:3] / np.linalg.norm(action[:3]), way / np.linalg.norm(way), atol=1e-6)
    assert np.abs(action[:3]).max() == pytest.approx(script.GAIN * 0.006 / 0.05)


@pytest.mark.parametrize("angle", [0.2, 1.0, 3.1])
def test_a_turn_is_asked_for_along_the_shortest_way(angle):
    axis = np.array([2.0, -1.0, 2.0]) / 3.0
    sight = dataclasses.replace(Toy().look(), rotation=DOWN)
    action = motion(sight, sight.hand, about(axis, angle) @ DOWN, OPEN)
    expected = axis * angle / 0.5
    np.testing.assert_allclose(action[3:6], expected / max(1.0, np.abs(expected).max()), atol=1e-6)


def box(size, at=(0.1, 0.2, 0.3)):
    return dataclasses.replace(Toy().look(), corners_N3=np.array(at) + SIGNS * size)


def test_what_fits_between_the_fingers_is_held_in_its_middle():
    tall, flat = box((0.03, 0.02, 0.07)), box((0.03, 0.02, 0.01))
    np.testing.assert_allclose(grasp_position(tall, Way(depth=0.03)), [0.1, 0.2, 0.34])
    np.testing.assert_allclose(grasp_position(flat, Way(depth=0.03)), [0.1, 0.2, 0.3])


def test_what_is_too_wide_is_held_by_its_rim_on_either_side():
    wide = box((0.05, 0.05, 0.02))
    for side in (-1.0, 1.0):
        found = grasp_position(wide, Way(side=side)) - (0.1, 0.2, 0.3)
        np.testing.assert_allclose(found[:2] @ wide.fingers[:2], side * (0.05 - script.WALL))
    turned = grasp_position(wide, Way(side=1.0, turn=math.pi / 2)) - (0.1, 0.2, 0.3)
    assert abs(turned[:2] @ wide.fingers[:2]) < 1e-12, "the rim is the one between the turned fingers"


def test_every_way_is_tried_once_a_tasks_own_first():
    assert ways_for("libero_object/0") == list(WAYS)
    for task, first in FIRST.items():
        TaskName.parse(task)
        assert ways_for(task)[0] == first
        assert sorted(ways_for(task)) == sorted(WAYS)


@pytest.mark.parametrize(
    "goals",
    [
        (Goal(name="open drawer", kind="joints", joints=(JointRange(3, True, 0.1, True),)),),
        (Goal(name="in soup basket", kind="in_site"), Goal(name="in sauce basket", kind="in_site")),
    ],
)
def test_tasks_that_are_no_single_placement_are_refused(goals):
    with pytest.raises(
        VlaError, match=r"libero_goal/0 cannot be scripted: it asks for (open drawer|in soup .* and in)"
    ):
        placement("libero_goal/0", goals)


def test_the_goal_of_a_single_placement_is_found():
    goal = Goal(name="on bowl plate", kind="on_object", body=3, other=4)
    assert placement("libero_spatial/0", (goal,)) is goal


def tried(task, state, success, num_tries=1, num_steps=100, way="straight"):
    return Try(task=task, state=state, success=success, num_tries=num_tries, way=way, num_steps=num_steps)


def test_tries_are_counted_by_task():
    found = summarise(
        [
            tried("libero_object/0", 0, True, num_steps=90),
            tried("libero_object/0", 4, True, num_tries=3, num_steps=110, way="turned"),
            tried("libero_object/0", 7, False, num_tries=8, num_steps=280),
            tried("libero_spatial/1", 0, False),
        ]
    )
    assert found["libero_object/0"] == {
        "num_states": 3, "num_successes": 2, "num_first_way": 1, "max_tries": 3, "mean_steps": 100.0, "max_steps": 110,
        "ways": {"straight": 1, "turned": 1}, "failed_states": [7],
    }  # fmt: skip
    assert found["libero_spatial/1"]["mean_steps"] is None
    assert table_of(found).row_count == 2


def test_a_try_is_named_by_its_state():
    empty = np.zeros((90, 7), dtype=np.float32)
    demonstration = ScriptedDemonstration(
        images_LCHW3=np.zeros((0, 2, 4, 4, 3), dtype=np.uint8), looked_L=np.zeros(0, dtype=np.int64), state_TS=empty,
        action_TA=empty, instruction="do it", success=True, way="turned", num_tries=3,
    )  # fmt: skip
    assert Try.of(Episode("libero_object/0", 4, "demonstration"), demonstration) == tried(
        "libero_object/0", 4, True, num_tries=3, num_steps=90, way="turned"
    )
