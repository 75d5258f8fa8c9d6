"""Shapes for whoever draws without MuJoCo: the same bodies, places and colours."""

import numpy as np
import pytest

from piper_twin.appearance import Appearance
from piper_twin.episode import Episode
from piper_twin.episode_run import EpisodeRun
from piper_twin.robot import ARMS, HOME
from piper_twin.tasks import TASKS
from vla_policy.errors import VlaError

BOTH_HOME = np.tile(HOME, 2)


@pytest.mark.parametrize("task", TASKS)
def test_every_shape_belongs_to_a_body_and_can_be_drawn(task):
    appearance = Appearance(Episode(task, 0), "wide")
    assert {shape.body for shape in appearance.shapes} == {"world", *appearance.bodies}
    assert set(appearance.objects) <= set(appearance.bodies)
    for shape in appearance.shapes:
        assert (shape.kind == "mesh") == (len(shape.faces) > 0)
        assert all(0.0 <= channel <= 1.0 for channel in shape.colour)
        if shape.kind == "mesh":
            assert 0 <= shape.faces.min() <= shape.faces.max() < len(shape.vertices)


def test_bodies_stand_where_the_simulated_ones_stand():
    run = EpisodeRun(Episode("pick_bottle", 3), "wide")
    moment = run.moment
    poses = Appearance(Episode("pick_bottle", 3), "wide").poses(moment.joints, moment.objects())
    world = moment.world
    layout, sensors = world.compiled.layout, world.start
    np.testing.assert_allclose(poses["bottle"][:3], sensors[layout["bottle_position"]], atol=1e-3)
    for arm in ARMS:
        tool = poses[f"{arm}_palm"]
        distance = np.linalg.norm(sensors[layout[f"{arm}_tool"]] - tool[:3])
        assert distance == pytest.approx(0.1358, abs=2e-3)


def test_an_object_whose_place_is_unknown_stays_where_it_was():
    appearance = Appearance(Episode("pick_bottle", 3))
    there = np.array([0.4, 0.1, 0.2, 1.0, 0.0, 0.0, 0.0])
    appearance.poses(BOTH_HOME, {"bottle": there, "ghost": there})
    np.testing.assert_allclose(appearance.poses(BOTH_HOME, {})["bottle"], there)


def test_objects_have_the_colours_of_their_episode():
    colours = set()
    for seed in range(12):
        shapes = Appearance(Episode("pick_bottle", seed)).shapes
        colours.add(next(shape.colour for shape in shapes if shape.kind == "mesh"))
    assert len(colours) == 4


def test_the_table_has_the_mean_colour_of_its_texture():
    table = next(shape for shape in Appearance().shapes if shape.name == "table")
    np.testing.assert_allclose(table.colour, (0.73, 0.63, 0.51), atol=0.02)


def test_without_an_episode_there_are_the_arms_on_their_table():
    appearance = Appearance()
    assert not appearance.objects
    assert {body.split("_")[0] for body in appearance.bodies} == set(ARMS)


def test_an_unknown_task_is_refused():
    with pytest.raises(VlaError, match="task 'dance' does not exist"):
        Appearance(Episode("dance", 0))
