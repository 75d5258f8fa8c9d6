"""What is known of one posture bounds what can be true of its neighbours."""

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piper_twin.clearance import RANGE, Clearance, GuardConfig, hull_of_box, reaches
from piper_twin.guard import limits_of
from piper_twin.robot import DUAL_PIPER

LOWER, UPPER, _, _ = limits_of(DUAL_PIPER)


@pytest.fixture(scope="module")
def clearance():
    return Clearance(GuardConfig())


@given(half=st.tuples(*[st.floats(0.001, 0.2)] * 3), signs=st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3))
def test_the_capsule_around_a_box_holds_its_corners(half, signs):
    half = np.array(half)
    radius, length = hull_of_box(half)
    corner = np.array(signs) * half
    axis = np.argmax(half)
    nearest = np.zeros(3)
    nearest[axis] = np.clip(corner[axis], -length, length)
    assert np.linalg.norm(corner - nearest) <= radius + 1e-12


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_no_motion_lessens_a_distance_by_more_than_its_joints_reach(clearance, seed):
    rng = np.random.default_rng(seed)
    posture = rng.uniform(LOWER, UPPER)
    moved = np.clip(posture + rng.choice((0.01, 0.1, 0.5)) * rng.normal(size=14) * (rng.random(14) < 0.4), LOWER, UPPER)
    before, after = clearance.measure(posture).excess, clearance.measure(moved).excess
    crossed = np.abs(moved - posture) @ reaches()
    assert (np.abs(after - before) <= crossed + 1e-9).all()
    assert (before >= -RANGE).all()


def test_turning_the_base_changes_no_distance_to_the_table(clearance):
    posture = np.tile([0.0, 2.2, -1.6, 0.2, 0.9, 0.3, 0.05], 2)
    turned = posture.copy()
    turned[[0, 7]] = 0.7, -0.4
    heights = [clearance.measure(each).excess[1:] for each in (posture, turned)]
    assert (heights[0] > -RANGE).all()
    np.testing.assert_allclose(heights[0], heights[1], atol=1e-9)


def test_shapes_do_nothing_but_keep_distances():
    model = Clearance(GuardConfig()).model
    assert model.npair > 0
    assert not model.geom_contype.any()
    assert model.geom("table").type == mujoco.mjtGeom.mjGEOM_PLANE
