"""Mirror images of demonstrations: appended once, consistent in pixels, joints and words."""

import dataclasses

import numpy as np
import pytest

from piper_twin.mirror import reflect_images, reflect_joints
from piper_twin.robot import DUAL_PIPER
from piper_twin.tasks import find_task
from vla_policy.errors import VlaError
from vla_rl_trainer.dataset import FrameTable
from vla_rl_trainer.dataset.reflection import with_reflections
from vla_rl_trainer.train import TrainConfig


def table_of() -> FrameTable:
    rng = np.random.default_rng(0)
    return FrameTable(
        cameras=DUAL_PIPER.camera_names,
        images_NCHW3=rng.integers(0, 256, (5, 3, 4, 4, 3), dtype=np.uint8),
        state_NS=rng.normal(size=(5, 14)).astype(np.float32),
        action_MA=rng.normal(size=(5, 14)).astype(np.float32),
        action_N=np.arange(5),
        end_N=np.array([2, 2, 5, 5, 5]),
        episode_N=np.array([0, 0, 1, 1, 1]),
        instructions=["ring the bell", "put it to the left"],
        instruction_N=np.array([0, 0, 1, 1, 1]),
    )


def test_every_episode_comes_a_second_time_reflected():
    own, both = table_of(), with_reflections(table_of(), DUAL_PIPER)
    assert len(both) == 10
    np.testing.assert_array_equal(both.episode_N, [0, 0, 1, 1, 1, 2, 2, 3, 3, 3])
    np.testing.assert_array_equal(both.images_NCHW3[:5], own.images_NCHW3)
    np.testing.assert_array_equal(both.images_NCHW3[5:], reflect_images(own.images_NCHW3))
    np.testing.assert_array_equal(both.state_NS[5:], reflect_joints(own.state_NS))
    np.testing.assert_array_equal(both.chunks([6, 9], 3), reflect_joints(own.chunks([1, 4], 3)))
    assert both.instructions_of(range(10))[::3] == [
        "ring the bell",
        "put it to the left",
        "ring the bell",
        "put it to the right",
    ]


def test_another_robot_has_no_mirror_image():
    with pytest.raises(VlaError, match="no pair of Pipers and has no mirror image; leave --mirror out"):
        with_reflections(table_of(), dataclasses.replace(DUAL_PIPER, name="one_arm"))
    with pytest.raises(VlaError, match="no pair of Pipers"):
        TrainConfig(tasks=("libero_object",), num_demos=1, mirror=True)


def test_a_task_whose_words_name_an_order_but_no_side_is_not_reflected():
    order = find_task("blocks_rank_rgb").instructions[0]
    own = dataclasses.replace(table_of(), instructions=["ring the bell", order])
    both = with_reflections(own, DUAL_PIPER)
    assert both.instructions_of(range(len(both))) == ["ring the bell"] * 2 + [order] * 3 + ["ring the bell"] * 2
    np.testing.assert_array_equal(both.chunks([5], 2), reflect_joints(own.chunks([0], 2)))
