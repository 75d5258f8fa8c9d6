"""Levels change what they say, within their ranges, and nothing else."""

import dataclasses

import mujoco
import numpy as np
import pytest

from piper_twin.command_line import CommandLine
from piper_twin.compiled_task import compiled_task
from piper_twin.episode import Episode
from piper_twin.randomization import LEVELS, Randomization, Variation, draw_variation, find_level
from piper_twin.robot import ARMS, DUAL_PIPER
from piper_twin.worlds import TwinConfig, WorldBatch
from vla_policy.errors import VlaError

VARIED = ["standard", "wide"]
GRIPPERS = [index for index, joint in enumerate(DUAL_PIPER.joints) if joint.is_gripper]
ROUNDING = 1e-6  # colours are float32


@pytest.fixture(scope="module")
def model():
    return compiled_task("click_bell").model


def draw(model, level: str | Randomization, seed: int = 0) -> Variation:
    level = find_level(level) if isinstance(level, str) else level
    return draw_variation(level, model, model.geom_rgba.copy(), np.random.default_rng(seed))


def is_object(model) -> np.ndarray:
    """Of each body, whether it belongs to the bell."""
    names = [model.body(int(root)).name for root in model.body_rootid]
    return np.array([name == "bell" for name in names])


def test_off_changes_nothing(model):
    variation = draw(model, "off")
    for field, value in variation.model_fields.items():
        np.testing.assert_array_equal(value, getattr(model, field), err_msg=field)
    np.testing.assert_array_equal(variation.joint_offset, 0.0)
    assert (variation.latency, variation.gripper_lag, variation.image_noise) == (0.0, 0.0, 0.0)


def test_wide_is_wider_than_standard_in_everything():
    standard, wide = LEVELS["standard"], LEVELS["wide"]
    for field in dataclasses.fields(Randomization):
        if field.name not in ("table_materials", "beyond"):
            assert 0 < getattr(standard, field.name) < getattr(wide, field.name), field.name
    assert standard.table_materials
    assert wide.table_materials


@pytest.mark.parametrize("level", VARIED)
def test_a_level_changes_only_what_it_names(model, level):
    fields = draw(model, level).model_fields
    looks = {"geom_rgba", "mat_rgba", "geom_matid", "light_diffuse", "light_dir", "cam_quat", "cam_pos", "cam_fovy"}
    assert set(fields) == looks | {"body_mass", "body_inertia", "geom_friction"}
    for field, value in fields.items():
        assert np.shape(value) == getattr(model, field).shape, field
        assert (np.asarray(value) != getattr(model, field)).any() or field == "geom_matid", field


@pytest.mark.parametrize("level", VARIED)
@pytest.mark.parametrize("seed", range(5))
def test_looks_stay_within_the_ranges(model, level, seed):
    ranges, fields = find_level(level), draw(model, level, seed).model_fields
    objects = is_object(model)[model.geom_bodyid]
    assert (fields["geom_rgba"] >= 0).all()
    assert (fields["geom_rgba"] <= 1).all()
    assert np.abs(fields["geom_rgba"] - model.geom_rgba).max() <= ranges.colour + ROUNDING
    np.testing.assert_array_equal(fields["geom_rgba"][~objects], model.geom_rgba[~objects])
    np.testing.assert_array_equal(fields["geom_rgba"][:, 3], model.geom_rgba[:, 3])
    assert np.abs(fields["mat_rgba"] - model.mat_rgba).max() <= ranges.table_colour + ROUNDING
    table = model.geom("table").id
    assert fields["geom_matid"][table] in range(model.nmat)
    np.testing.assert_array_equal(np.delete(fields["geom_matid"], table), np.delete(model.geom_matid, table))
    brightness = fields["light_diffuse"] / model.light_diffuse
    assert np.abs(brightness - 1).max() <= ranges.light_intensity + ROUNDING
    cosines = (fields["light_dir"] * model.light_dir).sum(axis=1)
    assert np.arccos(np.clip(cosines, -1, 1)).max() <= np.sqrt(3) * ranges.light_direction


@pytest.mark.parametrize("level", VARIED)
@pytest.mark.parametrize("seed", range(5))
def test_cameras_stay_within_the_ranges(model, level, seed):
    ranges, fields = find_level(level), draw(model, level, seed).model_fields
    assert np.abs(fields["cam_pos"] - model.cam_pos).max() <= ranges.camera_position
    assert np.abs(fields["cam_fovy"] / model.cam_fovy - 1).max() <= ranges.camera_fovy + ROUNDING
    np.testing.assert_allclose(np.linalg.norm(fields["cam_quat"], axis=1), 1.0)
    turns = 2 * np.arccos(np.clip(np.abs((fields["cam_quat"] * model.cam_quat).sum(axis=1)), 0, 1))
    assert 0 < turns.max() <= np.sqrt(3) * ranges.camera_angle


@pytest.mark.parametrize("level", VARIED)
@pytest.mark.parametrize("seed", range(5))
def test_bodies_stay_within_the_ranges_and_the_robot_keeps_its_mass(model, level, seed):
    ranges, fields = find_level(level), draw(model, level, seed).model_fields
    objects = is_object(model)
    scale = fields["body_mass"][objects] / model.body_mass[objects]
    assert np.abs(scale - 1).max() <= ranges.mass
    np.testing.assert_allclose(fields["body_inertia"][objects], model.body_inertia[objects] * scale[:, None])
    np.testing.assert_array_equal(fields["body_mass"][~objects], model.body_mass[~objects])
    friction = fields["geom_friction"] / model.geom_friction
    assert np.abs(friction[:, 0] - 1).max() <= ranges.friction + ROUNDING
    np.testing.assert_array_equal(friction[:, 1:], 1.0)
    np.testing.assert_array_equal(friction[~objects[model.geom_bodyid]], 1.0)


@pytest.mark.parametrize("level", VARIED)
def test_timing_and_zeros_are_drawn_over_their_whole_ranges(model, level):
    ranges = find_level(level)
    variations = [draw(model, level, seed) for seed in range(100)]
    for name, limit in (("latency", ranges.max_latency), ("gripper_lag", ranges.max_gripper_lag)):
        values = np.array([getattr(variation, name) for variation in variations])
        assert 0 <= values.min() < 0.1 * limit
        assert 0.9 * limit < values.max() <= limit
    offsets = np.array([variation.joint_offset for variation in variations])
    np.testing.assert_array_equal(offsets[:, GRIPPERS], 0.0)
    assert 0.9 * ranges.joint_offset < np.abs(offsets).max() <= ranges.joint_offset


def test_nothing_of_a_shifted_world_lies_in_the_middle_of_its_range(model):
    ranges = LEVELS["shifted"]
    objects = is_object(model)
    for seed in range(20):
        variation = draw(model, "shifted", seed)
        fields = variation.model_fields
        drawn = {
            "mass": fields["body_mass"][objects] / model.body_mass[objects] - 1,
            "friction": fields["geom_friction"][objects[model.geom_bodyid], 0]
            / model.geom_friction[objects[model.geom_bodyid], 0]
            - 1,
            "camera_position": fields["cam_pos"] - model.cam_pos,
            "joint_offset": np.delete(variation.joint_offset, GRIPPERS),
        }
        for name, values in drawn.items():
            width = getattr(ranges, name)
            assert (np.abs(values) >= 0.5 * width - ROUNDING).all(), name
            assert (np.abs(values) <= width + ROUNDING).all(), name
        assert 0.06 <= variation.latency <= 0.12
        assert 0.09 <= variation.gripper_lag <= 0.18


def test_new_objects_leave_the_table_alone_and_new_backgrounds_the_objects(model):
    objects, backgrounds = draw(model, "new_objects"), draw(model, "new_backgrounds")
    for field in ("mat_rgba", "geom_matid", "light_diffuse", "cam_pos"):
        np.testing.assert_array_equal(objects.model_fields[field], getattr(model, field))
    for field in ("geom_rgba", "body_mass", "geom_friction", "cam_pos"):
        np.testing.assert_array_equal(backgrounds.model_fields[field], getattr(model, field))
    assert (objects.model_fields["geom_rgba"] != model.geom_rgba).any()
    assert (backgrounds.model_fields["mat_rgba"] != model.mat_rgba).any()


@pytest.mark.parametrize("level", LEVELS)
def test_the_same_seed_draws_the_same_world_and_another_seed_another(model, level):
    one, again, other = draw(model, level, 1), draw(model, level, 1), draw(model, level, 2)
    for field, value in one.model_fields.items():
        np.testing.assert_array_equal(value, again.model_fields[field])
    np.testing.assert_array_equal(one.joint_offset, again.joint_offset)
    assert (one.latency, one.gripper_lag) == (again.latency, again.gripper_lag)
    varied = [name for name, value in one.model_fields.items() if (value != other.model_fields[name]).any()]
    assert (level == "off") == (not varied)


def test_an_unknown_level_is_refused_with_the_list():
    for ask in (find_level, lambda name: TwinConfig(randomization=name)):
        with pytest.raises(VlaError, match=r"'strong' does not exist; choose one of off, standard, wide, shifted"):
            ask("strong")


def still_world(seed: int = 0, randomization: str = "off") -> WorldBatch:
    batch = WorldBatch(1, TwinConfig(randomization=randomization, images=False))
    batch.reset([0], [Episode("click_bell", seed)])
    return batch


def measured(batch: WorldBatch) -> np.ndarray:
    state = np.zeros((1, 14), dtype=np.float32)
    batch.joint_states([0], state)
    return state[0].astype(float)


def test_latency_delays_the_motion_of_the_arm():
    punctual, late = still_world(), still_world()
    variation = dataclasses.replace(late.world(0).variation, latency=0.08)  # two control periods
    late.world(0).line = CommandLine(late.world(0).command, variation)
    readings = {"punctual": [], "late": []}
    for step in range(12):
        target = punctual.world(0).command + 0.1 * (step < 6)
        for name, batch in (("punctual", punctual), ("late", late)):
            batch.step_chunk([0], target[None, None])
            readings[name].append(measured(batch))
    moved = np.ptp(readings["punctual"], axis=0)[:6]
    assert moved.min() > 0.02
    np.testing.assert_allclose(readings["late"][2:], readings["punctual"][:-2], atol=1e-5)


def test_a_lagging_gripper_closes_later():
    openings = {}
    for lag in (0.0, 0.15):
        batch = still_world()
        world = batch.world(0)
        world.line = CommandLine(world.command, dataclasses.replace(world.variation, gripper_lag=lag))
        target = world.command.copy()
        target[GRIPPERS] = 0.0
        batch.step_chunk([0], np.tile(target, (1, 8, 1)))
        openings[lag] = measured(batch)[GRIPPERS]
    assert (openings[0.15] > openings[0.0] + 0.005).all(), "[m]"


def test_a_zero_error_moves_the_arm_but_not_its_reading(monkeypatch, model):
    monkeypatch.setitem(LEVELS, "skewed", Randomization(joint_offset=0.02))
    batch = still_world(randomization="skewed")
    world = batch.world(0)
    command = world.command.copy()
    batch.step_chunk([0], np.tile(command, (1, 8, 1)))
    np.testing.assert_allclose(measured(batch), command, atol=1e-3)
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, world.state, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    physical = [data.joint(f"{arm}_joint{number}").qpos[0] for arm in ARMS for number in range(1, 7)]
    offset = np.delete(world.variation.joint_offset, GRIPPERS)
    assert np.abs(offset).max() > 0.01
    np.testing.assert_allclose(physical, np.delete(command, GRIPPERS) + offset, atol=1e-3)


@pytest.mark.sim
def test_images_carry_the_noise_of_their_level(monkeypatch):
    monkeypatch.setitem(LEVELS, "noisy", Randomization(image_noise=5.0))
    images = {}
    for level in ("off", "noisy"):
        batch = WorldBatch(1, TwinConfig(randomization=level))
        batch.reset([0], [Episode("click_bell", 0)])
        images[level] = np.zeros((2, 3, 128, 128, 3), dtype=np.uint8)
        for row in range(2):
            batch.images([0], images[level][row : row + 1])
        batch.close()
    np.testing.assert_array_equal(images["off"][0], images["off"][1])
    difference = images["noisy"].astype(int) - images["off"]
    middling = (images["off"] > 20) & (images["off"] < 235)
    assert difference[middling].std() == pytest.approx(5.0, rel=0.05)
    assert (difference[0] != difference[1]).mean() > 0.5, "every image has noise of its own"
