"""What needs neither the benchmark nor its assets."""

import dataclasses
import sys

import mujoco
import numpy as np
import pytest

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_rl_trainer.envs.libero_env import LiberoVectorEnv
from vla_rl_trainer.libero import assets, cache, protocol, stock
from vla_rl_trainer.libero.camera import beside_view
from vla_rl_trainer.libero.compile_task import CompileConfig, ensure_compiled
from vla_rl_trainer.libero.controller import ControllerConstants, _inverse, rotation_of
from vla_rl_trainer.libero.embodiment import ACTION_SIZE, LIBERO_PANDA
from vla_rl_trainer.libero.goals import _find_threshold
from vla_rl_trainer.libero.predicates import Goal, Grasp, JointRange, Lamp
from vla_rl_trainer.libero.suites import HORIZONS, NUM_STATES, TaskName, tasks_of
from vla_rl_trainer.libero.worlds import LiberoConfig

TASK = TaskName("libero_goal", 3)


def test_task_names_are_read_and_written_alike():
    assert [str(TaskName.parse(name)) for name in tasks_of("libero_10")] == list(tasks_of("libero_10"))
    assert TaskName.parse("libero_10/4").horizon == 520


@pytest.mark.parametrize("text", ["libero_object", "libero_object/10", "libero_90/0", "click_bell", "libero_goal/-1"])
def test_a_task_that_does_not_exist_is_refused_with_the_suites(text):
    with pytest.raises(VlaError, match="write SUITE/0 to SUITE/9, SUITE one of libero_spatial"):
        TaskName.parse(text)


def test_a_suite_stands_for_its_ten_tasks():
    assert len(CompileConfig().names) == 10 * len(HORIZONS)
    assert [str(name) for name in CompileConfig(tasks=("libero_goal/3",)).names] == ["libero_goal/3"]
    with pytest.raises(VlaError, match="suite 'goal' does not exist"):
        _ = CompileConfig(tasks=("goal",)).names


def states(split, rule, num=200):
    return [protocol.state_of(Episode(str(TASK), seed, split), rule, NUM_STATES) for seed in range(num)]


def test_held_out_states_never_occur_in_training():
    evaluation = set(states("evaluation", "held_out"))
    others = {state for split in ("train", "demonstration", "pretraining") for state in states(split, "held_out")}
    assert evaluation.isdisjoint(others)
    assert evaluation | others == set(range(NUM_STATES))


def test_the_official_split_runs_through_all_states_in_order():
    assert states("evaluation", "official", 60) == [*range(50), *range(10)] == states("train", "official", 60)


def test_images_are_turned_by_half_a_circle_and_resized():
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    np.testing.assert_array_equal(protocol.turned_half(protocol.turned_half(image)), image)
    np.testing.assert_array_equal(protocol.turned_half(image)[0, 0], image[3, 3])
    assert protocol.resized(image, 4) is image
    flat = np.full((256, 256, 3), 77, dtype=np.uint8)
    np.testing.assert_array_equal(protocol.resized(flat, 224), np.full((224, 224, 3), 77))


def test_an_open_gripper_is_minus_one():
    np.testing.assert_array_equal(protocol.gripper_command([1.0, 0.9, 0.1, 0.0]), [-1, -1, 1, 1])


@pytest.mark.parametrize("turn", [[0.1, -0.2, 0.3], [0.5, 0.5, -0.5], [1e-6, 0.0, 0.0]])
def test_a_turn_is_a_rotation_to_the_precision_of_32_bits(turn):
    found, expected = rotation_of(np.array(turn)), np.empty(9)
    quaternion = np.empty(4)
    mujoco.mju_axisAngle2Quat(quaternion, np.array(turn) / np.linalg.norm(turn), np.linalg.norm(turn))
    mujoco.mju_quat2Mat(expected, quaternion)
    np.testing.assert_allclose(found, expected.reshape(3, 3), atol=3e-7)
    np.testing.assert_array_equal(rotation_of(np.zeros(3)), np.eye(3))


@pytest.mark.parametrize("size", [3, 6, 7])
def test_a_matrix_times_its_inverse_is_one_whichever_entry_is_largest(size):
    rng = np.random.default_rng(size)
    for _ in range(20):
        matrix = rng.normal(size=(size, size))
        matrix[0, 0] = 0.0
        np.testing.assert_allclose(_inverse(matrix), np.linalg.inv(matrix), rtol=1e-9, atol=1e-12)


def test_a_matrix_without_an_inverse_is_the_error_that_drops_a_world():
    with pytest.raises(np.linalg.LinAlgError):
        _inverse(np.zeros((3, 3)))


SCENE = """<mujoco><option gravity="0 0 0"/><worldbody>
  <body name="shelf" pos="0 0 0.5"><geom name="board" type="box" size="0.2 0.2 0.01"/>
    <site name="place" type="box" size="0.1 0.1 0.01" pos="0 0 0.015"/></body>
  <body name="cup" pos="0 0 0.53"><freejoint/><geom name="cup" type="box" size="0.02 0.02 0.02"/></body>
  <body name="knob" pos="1 0 0"><joint name="knob" axis="0 0 1"/><geom size="0.01"/></body>
</worldbody></mujoco>"""


@pytest.fixture
def world():
    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


def moved(world, x, z):
    model, data = world
    data.qpos[:3] = x, 0.0, z
    mujoco.mj_forward(model, data)
    return data


def goal(model, kind, **fields):
    return Goal(name=kind, kind=kind, body=model.body("cup").id, **fields)


def test_something_is_in_a_site_when_its_centre_is(world):
    inside = goal(world[0], "in_site", site=world[0].site("place").id, size=(0.1, 0.1, 0.05))
    assert inside.holds(moved(world, 0.0, 0.53))
    assert inside.holds(moved(world, 0.0, 0.46))  # a centimetre below counts, as in the benchmark
    assert not inside.holds(moved(world, 0.0, 0.45))
    assert not inside.holds(moved(world, 0.11, 0.53))


def test_something_is_on_a_site_when_it_is_above_and_touches_what_the_site_belongs_to(world):
    model, _ = world
    on = goal(
        model, "on_site", site=model.site("place").id, size=(0.1, 0.1, 0.01),
        geoms=(model.geom("cup").id,), other_geoms=(model.geom("board").id,),
    )  # fmt: skip
    assert on.holds(moved(world, 0.05, 0.5299))
    assert not on.holds(moved(world, 0.05, 0.55))
    assert dataclasses.replace(on, other_geoms=()).holds(moved(world, 0.05, 0.55))
    assert not on.holds(moved(world, 0.15, 0.5299))


def test_something_is_on_an_object_when_it_touches_it_from_above_near_its_middle(world):
    model, _ = world
    on = goal(
        model, "on_object", other=model.body("shelf").id,
        geoms=(model.geom("cup").id,), other_geoms=(model.geom("board").id,),
    )  # fmt: skip
    assert on.holds(moved(world, 0.02, 0.5299))
    assert not on.holds(moved(world, 0.04, 0.5299))
    assert not on.holds(moved(world, 0.02, 0.4701))


def test_joints_count_on_their_side_of_the_threshold(world):
    model, data = world
    address = int(model.joint("knob").qposadr[0])
    on, off = JointRange(address, True, 0.5, True), JointRange(address, False, 0.0, False)
    for value, expected in ((0.6, (True, False)), (0.5, (True, False)), (0.0, (False, False)), (-0.1, (False, True))):
        data.qpos[address] = value
        assert (on.holds(data), off.holds(data)) == expected
    both = Goal(name="close", kind="joints", joints=(on, off), needs_all=True)
    assert not both.holds(data)
    assert dataclasses.replace(both, needs_all=False).holds(data)
    Lamp(0, off).show(model, data)
    assert model.site_rgba[0, 3] == 1.0


@pytest.mark.parametrize(
    ("rule", "edges", "expected"),
    [
        (lambda q: q >= 0.5, [0.5, 2.1, -0.005, 0.0], (True, 0.5)),
        (lambda q: q < -0.14, [-0.16, -0.14, 0.0, 0.005], (False, -0.14)),
        (lambda q: q > 0.0, [-0.16, -0.14, 0.0, 0.005], (True, 0.0)),
    ],
)
def test_thresholds_are_found_by_asking_the_benchmarks_own_rule(rule, edges, expected):
    assert _find_threshold(rule, edges) == expected


def test_a_grasp_needs_both_fingers(world):
    model, _ = world
    board, cup = model.geom("board").id, model.geom("cup").id
    data = moved(world, 0.0, 0.5299)
    assert Grasp(left=(board,), right=(board,), objects={"cup": (cup,)}).held(data) == ["cup"]
    assert Grasp(left=(board,), right=(), objects={"cup": (cup,)}).held(data) == []


def made_task():
    numbers = tuple(float(value) for value in range(6))
    constants = {field.name: numbers for field in dataclasses.fields(ControllerConstants)}
    constants |= {
        "substeps": 25,
        "site": 1,
        "hand": 2,
        "fingers": (7, 8),
        "actuators": (0,),
        "gripper_actuators": (7, 8),
    }
    return cache.CompiledTask(
        name=str(TASK),
        instruction="turn on the stove",
        horizon=300,
        controller=ControllerConstants(**constants | {"gripper_speed": 0.01}),
        goals=(Goal(name="turnon stove", kind="joints", joints=(JointRange(9, True, 0.5, True),)),),
        grasp=Grasp(left=(1, 2), right=(3,), objects={"bowl": (4, 5)}),
        lamps=(Lamp(3, JointRange(9, True, 0.5, True)),),
        fixtures=(4, 5),
        cameras=(0, 1),
        origin={"mujoco": mujoco.__version__},
        states_NS=np.random.default_rng(0).normal(size=(3, 5)),
        seen_N2Q=np.ones((3, 2, 4)),
        fixture_poses_NF7=np.zeros((3, 2, 7)),
        goal_rotations_N33=np.zeros((3, 3, 3)),
        grippers_N2=np.zeros((3, 2)),
    )


def test_a_compiled_task_is_read_as_it_was_written(tmp_path):
    task = made_task()
    folder = cache.folder_of(tmp_path, TASK)
    folder.mkdir(parents=True)
    cache.write_task(folder, task)
    read = cache.read_task(tmp_path, TASK)
    for field in dataclasses.fields(task):
        mine, theirs = getattr(task, field.name), getattr(read, field.name)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs)
        else:
            assert mine == theirs
    assert not cache.is_cached(tmp_path, TASK, "lean")  # the model is missing
    (folder / "lean.mjb").touch()
    assert cache.is_cached(tmp_path, TASK, "lean")
    with pytest.raises(VlaError, match="cannot be read"):
        cache.read_model(tmp_path, TASK, "lean")
    (folder / "task.json").write_text("{}")
    assert not cache.is_cached(tmp_path, TASK, "lean")
    with pytest.raises(VlaError, match="delete the folder"):
        cache.read_task(tmp_path, TASK)


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("LIBERO_CACHE", str(tmp_path / "here"))
    assert cache.default_cache() == tmp_path / "here" == LiberoConfig().cache
    monkeypatch.delenv("LIBERO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_cache() == tmp_path / "vla-piper" / "libero"


def test_without_the_benchmark_one_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(stock, "is_installed", lambda: False)
    with pytest.raises(VlaError, match=r"pip install --no-deps hf-libero==0.1.4, or bring a compiled cache"):
        ensure_compiled(tmp_path, TASK, "lean")


def test_a_wrong_assets_folder_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("LIBERO_ASSETS", str(tmp_path))
    with pytest.raises(VlaError, match=r"LIBERO_ASSETS is .* point it at LIBERO's assets folder"):
        assets.find_assets()


def test_without_assets_or_a_network_one_error_says_how_to_get_them(monkeypatch):
    def fail():
        raise ConnectionError("no network")

    monkeypatch.delenv("LIBERO_ASSETS", raising=False)
    monkeypatch.setattr(assets, "_package_folder", lambda: None)
    monkeypatch.setattr(assets, "_download", fail)
    with pytest.raises(VlaError, match=r"\(ConnectionError\); on a machine with a network run: hf download"):
        assets.find_assets()


def test_downloaded_assets_are_found_below_the_snapshot_too(monkeypatch, tmp_path):
    sign = tmp_path / "assets" / "scenes" / "libero_floor_base_style.xml"
    sign.parent.mkdir(parents=True)
    sign.touch()
    monkeypatch.delenv("LIBERO_ASSETS", raising=False)
    monkeypatch.setattr(assets, "_package_folder", lambda: None)
    monkeypatch.setattr(assets, "_download", lambda: tmp_path)
    assert assets.find_assets() == tmp_path / "assets"
    assert not assets.has_stand_ins(tmp_path / "assets")
    (tmp_path / "assets" / "SOURCES.md").write_text("Fifteen files are visual stand-ins of our own")
    assert assets.has_stand_ins(tmp_path / "assets")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"states": "all"}, "states is 'all'; choose one of official, held_out"),
        ({"visuals": "ugly"}, "choose one of lean, stock"),
        ({"image_size": 0}, "image_size 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(fields, message):
    with pytest.raises(VlaError, match=message):
        LiberoConfig(**fields)


def test_the_robot_takes_seven_numbers_at_20_hz():
    assert LIBERO_PANDA.num_joints == ACTION_SIZE == 7
    assert LIBERO_PANDA.control_period == 0.05
    assert LIBERO_PANDA.joints[-1].is_gripper


def test_a_task_that_cannot_be_compiled_is_one_error(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    env = LiberoVectorEnv.__new__(LiberoVectorEnv)
    env.config, env._compiled = LiberoConfig(cache=tmp_path), set()
    with pytest.raises(VlaError, match="libero_goal/3 could not be compiled: no message"):
        env.compile_tasks(["libero_goal/3"])


LOOKING = """<mujoco><worldbody>
  <camera name="down" pos="0 0 1" fovy="90"/>
  <geom name="floor" type="plane" size="9 9 1" pos="50 0 -1" contype="0"/>
  <geom name="within" size="0.1" pos="0.5 0 0"/>
  <geom name="at the edge" size="0.1" pos="1.05 0 0"/>
  <geom name="beside" size="0.1" pos="1.3 0 0"/>
  <geom name="behind" size="0.1" pos="0 0 2"/>
  <geom name="long, reaching in" type="box" size="0.5 0.01 0.01" pos="1.4 0 0"/>
  <geom name="long, alongside" type="box" size="0.01 0.5 0.01" pos="1.4 0 0"/>
</worldbody></mujoco>"""


def test_only_what_a_camera_cannot_show_is_beside_its_view():
    model = mujoco.MjModel.from_xml_string(LOOKING)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    beside = {model.geom(geom).name for geom in np.flatnonzero(beside_view(model, data, 0))}
    assert beside == {"beside", "behind", "long, alongside"}
