"""Predicates, noise and averaging give on tensors what they give on arrays; what cannot be drawn is refused."""

import mujoco
import numpy as np
import pytest
import torch

pytest.importorskip("mujoco_warp", reason='install it with pip install -c constraints.txt -e ".[warp]"')

from piper_twin import pixels
from piper_twin.compiled_task import compiled_task
from piper_twin.mjwarp.pixels import add_noise, average_down, noise_begins
from piper_twin.mjwarp.renderer import require_drawable
from piper_twin.task import Readings
from piper_twin.tasks import TASKS
from vla_policy.errors import VlaError


@pytest.mark.parametrize("name", [*TASKS, "play_lift_block", "play_reach_ball", "play_push_drum", "play_place_brick"])
def test_predicates_judge_tensors_as_they_judge_arrays(name):
    compiled, rng = compiled_task(name), np.random.default_rng(0)
    world = rng.normal(0.0, 0.05, (400, 3, compiled.model.nsensordata)).astype(np.float32)
    start = world[:, :1] + rng.normal(0.0, 0.02, (400, 1, compiled.model.nsensordata)).astype(np.float32)
    task, found = compiled.task, {}
    for kind, convert in (("arrays", np.asarray), ("tensors", torch.from_numpy)):
        now, begin = (Readings(compiled.layout, convert(values)) for values in (world, start))
        found[kind] = {"success": task.success(now, begin)} | task.signals(now, begin)
    assert found["arrays"].keys() == found["tensors"].keys()
    for signal, expected in found["arrays"].items():
        np.testing.assert_array_equal(found["tensors"][signal].numpy(), expected)
    assert any(values.any() for values in found["arrays"].values())


def test_noise_is_that_of_the_cpu_pixel_by_pixel():
    images = np.random.default_rng(0).integers(0, 256, (300, 1, 8, 8, 3), dtype=np.uint8)
    expected = np.stack([pixels.add_noise(one, 5.0, np.random.default_rng(row)) for row, one in enumerate(images)])
    found = torch.from_numpy(images.copy())
    rngs = [np.random.default_rng(row) for row in range(len(images))]
    add_noise(found, 5.0, noise_begins(rngs, images[0].size, found.device))
    np.testing.assert_array_equal(found.numpy(), expected)
    assert (expected != images).mean() > 0.5


@pytest.mark.parametrize("size", [128, 64, 32])
def test_averages_are_those_of_the_cpu(size):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 128, 128, 3), dtype=np.uint8)
    found = average_down(torch.from_numpy(images), size)
    np.testing.assert_array_equal(found.numpy(), pixels.average_down(images, size))


def scene(extra: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(f"""<mujoco><asset>
        <texture name="t" type="2d" builtin="checker" width="8" height="8" rgb1="1 0 0" rgb2="0 1 0"/>
        <material name="m" texture="t"/></asset><worldbody>
        <light type="directional" castshadow="false"/><geom type="box" size="1 1 1" material="m"/>{extra}
        </worldbody></mujoco>""")


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ('<geom name="globe" type="sphere" size="1" material="m"/>', r"textures on anything but boxes \(globe\)"),
        ('<geom name="glass" type="sphere" size="1" rgba="1 1 1 0.5"/>', r"transparent shapes \(glass\)"),
        ('<light type="spot" castshadow="false"/>', "lights that are not directional"),
        ('<light type="directional" castshadow="true"/>', "lights .* cast shadows"),
    ],
)
def test_what_would_look_otherwise_is_refused(extra, what):
    require_drawable(scene(""), "a_task")
    with pytest.raises(VlaError, match=rf"cannot draw {what}.* a_task has; choose --backend mujoco") as told:
        require_drawable(scene(extra), "a_task")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_can_be_drawn(name):
    require_drawable(compiled_task(name).model, name)
    assert compiled_task(name).model.ngeom > 40
