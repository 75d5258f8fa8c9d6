"""What the two-armed tasks' predicates allow and refuse, told by changing one reading of a world that is solved."""

from __future__ import annotations

import math

import numpy as np
import pytest

from piper_twin import cubes, handover
from piper_twin.carrying import other_arm, squeezing, take, together
from piper_twin.clearance import GuardConfig
from piper_twin.compiled_task import compiled_task
from piper_twin.episode import Episode
from piper_twin.expert import commands
from piper_twin.guard import DistanceGuard
from piper_twin.moves import Move, ToolPose, nearer_arm
from piper_twin.robot import ARMS
from piper_twin.task import Readings
from piper_twin.tasks import TASKS
from piper_twin.worlds import TwinConfig, WorldBatch

pytestmark = pytest.mark.sim

TWO_ARMED = ("handover_mic", "handover_block", "blocks_rank_rgb", "blocks_stack", "put_bottles_dustbin")


class Solved:
    """The last reading of an expert that has succeeded, and the first one; readings can be changed by name."""

    def __init__(self, name: str, seed: int = 0) -> None:
        worlds = WorldBatch(1, TwinConfig(randomization="off", images=False))
        worlds.reset([0], [Episode(name, seed, "evaluation")])
        world = worlds.world(0)
        self.task, self.layout = world.compiled.task, world.compiled.layout
        self.start = Readings(self.layout, world.start.copy())
        self.plan = commands(self.task.plan(self.start), world.command)
        self.refused = 0
        for row in self.plan:
            outcome = worlds.step_chunk([0], row[None, None])
            self.refused += int(outcome.refused_B[0])
            if outcome.done_B[0]:
                break
        assert outcome.success_B[0]
        self.values = world.sensors.copy()
        worlds.close()

    def still_counts(self, **changes) -> bool:
        """Whether it still counts as solved with other readings, by name."""
        values = self.values.copy()
        for name, value in changes.items():
            values[self.layout[name]] = value
        return bool(self.task.success(Readings(self.layout, values), self.start))

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[self.layout[name]].copy()


@pytest.fixture(scope="module", params=[0, 1])
def microphone(request):
    return Solved("handover_mic", request.param)


def test_a_handover_counts_only_after_the_giver_has_let_go(microphone):
    giver = nearer_arm(float(microphone.start.y("mic_position")))
    assert microphone.still_counts()
    assert not microphone.still_counts(**{f"{giver}_pad1": 1.0})


def test_a_microphone_that_the_taker_does_not_press_or_is_not_at_is_not_handed_over(microphone):
    taker = other_arm(nearer_arm(float(microphone.start.y("mic_position"))))
    assert not microphone.still_counts(**{f"{taker}_pad2": 0.0})
    assert not microphone.still_counts(**{f"{taker}_tool": microphone[f"{taker}_tool"] + (0.0, 0.0, 0.04)})


def test_a_microphone_on_the_table_or_swung_is_not_handed_over(microphone):
    lying = microphone["mic_position"]
    lying[2] = microphone.start.z("mic_position")
    assert not microphone.still_counts(mic_position=lying)
    assert not microphone.still_counts(mic_velocity=(0.0, 0.2, 0.0))


def test_the_arm_that_the_microphone_lay_before_cannot_be_its_taker(microphone):
    start = microphone.start
    for arm in ARMS:
        assert bool(handover.started_with(start, arm, "mic")) == (arm == nearer_arm(float(start.y("mic_position"))))


def test_a_block_counts_along_the_pad_either_way_round_and_not_across_it():
    solved = Solved("handover_block")
    assert solved.still_counts(block_forward=-solved["block_forward"])
    across = np.cross((0.0, 0.0, 1.0), solved["pad_forward"])
    assert not solved.still_counts(block_forward=across)
    assert not solved.still_counts(block_position=solved["block_position"] + (0.0, 0.035, 0.0))
    assert not solved.still_counts(left_pad1=1.0)


@pytest.mark.parametrize("name", ["blocks_rank_rgb", "blocks_stack"])
def test_the_order_of_the_colours_counts(name):
    solved = Solved(name)
    assert not solved.still_counts(red_position=solved["green_position"], green_position=solved["red_position"])
    assert not solved.still_counts(blue_position=solved["green_position"], green_position=solved["blue_position"])


def test_a_row_counts_wherever_it_is_and_a_gap_or_a_step_in_it_does_not():
    solved = Solved("blocks_rank_rgb")
    elsewhere = {f"{cube}_position": solved[f"{cube}_position"] - (0.05, 0.10, 0.0) for cube in cubes.CUBES}
    assert solved.still_counts(**elsewhere)
    assert not solved.still_counts(blue_position=solved["blue_position"] - (0.0, 0.05, 0.0))
    assert not solved.still_counts(green_position=solved["green_position"] + (0.05, 0.0, 0.0))
    assert not solved.still_counts(green_position=solved["green_position"] + (0.0, 0.0, 0.04))


def test_a_tower_without_its_top_or_out_of_plumb_does_not_count():
    solved = Solved("blocks_stack")
    assert not solved.still_counts(blue_position=solved["blue_position"] - (0.0, 0.0, 0.08))
    assert not solved.still_counts(green_position=solved["green_position"] + (0.025, 0.0, 0.0))
    assert not solved.still_counts(blue_velocity=(0.0, 0.0, -0.1))


def test_every_bottle_has_to_be_in_the_bin_which_stands():
    solved = Solved("put_bottles_dustbin")
    for bottle in ("bottle1", "bottle2", "bottle3"):
        assert not solved.still_counts(**{f"{bottle}_position": solved[f"{bottle}_position"] + (-0.2, 0.0, 0.0)})
        assert not solved.still_counts(**{f"{bottle}_position": solved[f"{bottle}_position"] + (0.0, 0.0, 0.12)})
    assert not solved.still_counts(bin_up=(1.0, 0.0, 0.0))


def test_a_shoe_has_to_point_left_on_the_mat():
    solved = Solved("shoe_place")
    assert solved.still_counts(shoe_forward=(math.sin(0.3), math.cos(0.3), 0.0))
    assert not solved.still_counts(shoe_forward=-solved["shoe_forward"])
    assert not solved.still_counts(shoe_forward=(1.0, 0.0, 0.0))
    assert not solved.still_counts(shoe_position=solved["shoe_position"] + (0.05, 0.0, 0.0))


@pytest.mark.parametrize("name", TWO_ARMED)
def test_both_arms_take_part_and_the_guard_refuses_nothing(name):
    solved = Solved(name, seed=1)
    assert solved.refused == 0
    pressed = {arm: False for arm in ARMS}
    plan = solved.task.plan(solved.start)
    for move in plan:
        for arm, pose in move.targets.items():
            pressed[arm] |= pose.opening < 0.035
    assert all(pressed.values())


def test_a_handover_keeps_a_centimetre_more_than_the_guard_asks_for():
    stricter = DistanceGuard(GuardConfig(arm_distance=GuardConfig().arm_distance + 0.01))
    for name in ("handover_mic", "handover_block"):
        assert [reason for row in Solved(name).plan if (reason := stricter.violation(row))] == []


def test_starts_of_three_cubes_leave_the_middle_free_and_need_both_arms():
    for seed in range(40):
        placements = TASKS["blocks_stack"].scene(Episode("blocks_stack", seed).generator("scene")).placements
        assert {nearer_arm(place.y) for place in placements.values()} == set(ARMS)
        assert all(abs(place.y) > 0.15 for place in placements.values())


def test_plans_of_two_arms_are_joined_move_by_move_and_the_longer_goes_on():
    poses = [ToolPose(0.3, 0.2, z) for z in (0.1, 0.2)]
    moves = together(
        [Move({"left": poses[0]}, wait=0.2), Move({"left": poses[1]}, straight=True)],
        [Move({"right": poses[0]}, speed=0.5)],
    )
    assert [set(move.targets) for move in moves] == [{"left", "right"}, {"left"}]
    assert (moves[0].wait, moves[0].speed, moves[0].straight, moves[1].straight) == (0.2, 0.5, False, True)


def test_a_gripper_is_told_to_close_to_less_than_what_it_holds():
    grasp = ToolPose(0.3, 0.2, 0.02, opening=0.06)
    assert squeezing(grasp, 0.04).opening < 0.04
    assert squeezing(grasp, 0.01).opening == 0.0
    assert [next(iter(move.targets.values())).opening for move in take("left", grasp, 0.04)] == pytest.approx(
        [0.06, 0.06, 0.02, 0.02]
    )


@pytest.mark.parametrize("name", [*TWO_ARMED, "shoe_place"])
def test_the_batch_renderer_can_draw_it(name):
    pytest.importorskip("mujoco_warp", reason='install it with pip install -c constraints.txt -e ".[warp]"')
    from piper_twin.mjwarp.renderer import DRAWN, require_drawable

    model = compiled_task(name).model
    require_drawable(model, name)
    assert {int(kind) for kind in model.geom_type[model.geom_group < 3]} <= DRAWN
