"""The mirror image of the cell is the cell: what is reflected by numbers is what the twin does and draws."""

import mujoco
import numpy as np
import pytest

from piper_twin.compiled_task import compiled_task
from piper_twin.episode import Episode
from piper_twin.mirror import reflect_images, reflect_joints, reflect_words
from piper_twin.robot import ARMS, HOME
from piper_twin.worlds import TwinConfig, WorldBatch


def tools(joints: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Where each tool is, and its axes as columns, with the arms at some joints."""
    model = compiled_task("click_bell").model
    data = mujoco.MjData(model)
    for arm, own in zip(ARMS, joints.reshape(2, 7), strict=True):
        for number in range(6):
            data.joint(f"{arm}_joint{number + 1}").qpos[0] = own[number]
    mujoco.mj_kinematics(model, data)
    return {arm: (data.site(f"{arm}_tool").xpos.copy(), data.site(f"{arm}_tool").xmat.reshape(3, 3)) for arm in ARMS}


def test_tools_of_reflected_joints_are_the_tools_reflected():
    rng = np.random.default_rng(0)
    flip = np.diag([1.0, -1.0, 1.0])
    for _ in range(20):
        joints = np.tile(HOME, 2) + rng.normal(0.0, 0.3, 14)
        here, there = tools(joints), tools(reflect_joints(joints))
        for arm, other in zip(ARMS, reversed(ARMS), strict=True):
            np.testing.assert_allclose(there[other][0], flip @ here[arm][0], atol=1e-9)
            # A frame reflected is left-handed; the gripper's two fingers are alike, so its y axis may point either way.
            np.testing.assert_allclose(there[other][1], flip @ here[arm][1] @ flip, atol=1e-9)


def test_reflecting_twice_changes_nothing():
    joints = np.random.default_rng(0).normal(size=(3, 14)).astype(np.float32)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 4, 3), dtype=np.uint8)
    assert (reflect_joints(reflect_joints(joints)) == joints).all()
    assert (reflect_images(reflect_images(images)) == images).all()
    assert reflect_joints(joints).dtype == np.float32


@pytest.mark.parametrize(
    ("said", "reflected"),
    [
        ("put it to the left of the box", "put it to the right of the box"),
        ("hand it from the right arm to the left arm", "hand it from the left arm to the right arm"),
        ("what is leftover, right away", "what is leftover, left away"),
        ("ring the bell", "ring the bell"),
    ],
)
def test_words_change_sides(said, reflected):
    assert reflect_words(said) == reflected


@pytest.mark.sim
def test_pictures_of_the_reflected_cell_are_the_pictures_reflected():
    worlds = WorldBatch(2, TwinConfig())
    worlds.reset([0, 1], [Episode("click_bell", 3), Episode("click_bell", 3)])
    here, there = worlds.world(0), worlds.world(1)
    model = here.compiled.model
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, here.state, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    joints = np.zeros((1, 14), dtype=np.float32)
    worlds.joint_states([0], joints)
    joints[0] += np.random.default_rng(1).normal(0.0, 0.15, 14).astype(np.float32)

    def put(world, values, side):
        for arm, own in zip(ARMS, values.reshape(2, 7), strict=True):
            for number in range(6):
                data.joint(f"{arm}_joint{number + 1}").qpos[0] = own[number]
            for finger in (1, 2):
                data.joint(f"{arm}_finger{finger}").qpos[0] = own[6] / 2
        bell = model.body("bell").jntadr[0]
        begin = model.jnt_qposadr[bell]
        data.qpos[begin : begin + 7] = (0.34, side * 0.2, 0.0, 1.0, 0.0, 0.0, 0.0)
        mujoco.mj_getState(model, data, world.state, mujoco.mjtState.mjSTATE_FULLPHYSICS)

    put(here, joints[0], 1.0)
    put(there, reflect_joints(joints[0]), -1.0)
    images = np.zeros((2, 3, 128, 128, 3), dtype=np.uint8)
    worlds.images([0, 1], images)
    apart = np.abs(reflect_images(images[0]).astype(int) - images[1])
    unlike = np.abs(images[0].astype(int) - images[1])
    assert apart.mean() < 4.0, "lamps and the table's flecks are not symmetric; arms and bell are"
    assert apart.mean() < 0.35 * unlike.mean()
    worlds.close()
