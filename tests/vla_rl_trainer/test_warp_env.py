"""The twin on mujoco_warp behind the trainer's interface."""

import contextlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mujoco_warp", reason='install it with pip install -c constraints.txt -e ".[warp]"')

from piper_twin.episode import Episode
from piper_twin.mjwarp.device import WarpConfig
from piper_twin.robot import DUAL_PIPER
from piper_twin.tasks import find_task
from piper_twin.worlds import TwinConfig
from vla_policy import presets
from vla_policy.errors import VlaError
from vla_rl_trainer import train_grpo
from vla_rl_trainer.envs.twin_env import TwinVectorEnv
from vla_rl_trainer.envs.vector_env import LaunchingEnv
from vla_rl_trainer.envs.warp_env import WarpTwinVectorEnv
from vla_rl_trainer.evaluate import EvaluateConfig
from vla_rl_trainer.rollout import run_episodes
from vla_rl_trainer.train_grpo import TrainGrpoConfig

ON_CPU = WarpConfig(device="cpu")


def test_a_rollout_runs_in_it_and_sees_what_the_worlds_hold(monkeypatch):
    monkeypatch.setattr(find_task("click_bell"), "horizon", 2)
    seen, finished = [], []

    def decide(observations, trajectories):
        seen.append(observations)
        slots = range(len(trajectories))
        np.testing.assert_array_equal(env.worlds.look(slots).numpy(), observations.images_BCHW3)
        np.testing.assert_array_equal(env.worlds.states(slots).numpy(), observations.state_BS)
        return observations.state_BS[:, None]

    def on_finished(trajectory):
        finished.append((trajectory.episode.seed, trajectory.num_steps, trajectory.success))
        return ()

    with WarpTwinVectorEnv(2, TwinConfig(image_size=64), WarpConfig(device="cpu")) as env:
        run_episodes(env, decide, [Episode("click_bell", seed) for seed in range(2)], on_finished)
    assert finished == [(0, 2, False), (1, 2, False)]
    assert [one.images_BCHW3.shape for one in seen] == [(2, len(DUAL_PIPER.cameras), 64, 64, 3)] * 2
    assert seen[0].images_BCHW3.dtype == np.uint8
    assert (seen[0].images_BCHW3.std(axis=(2, 3)) > 5).all(), "no picture is empty"


def test_cohorts_take_turns_in_one_thread_and_find_what_one_alone_finds(monkeypatch):
    monkeypatch.setattr(find_task("click_bell"), "horizon", 4)
    rng = np.random.default_rng(0)
    motions = rng.normal(0.0, 0.02, (8, 2, 14)).astype(np.float32)

    def found(num_cohorts):
        seen = {}

        def decide(observations, trajectories):
            for row, trajectory in enumerate(trajectories):
                key = (trajectory.episode.seed, len(trajectory.steps))
                seen[key] = (observations.images_BCHW3[row].copy(), observations.state_BS[row].copy())
            told = np.stack([motions[one.episode.seed] for one in trajectories])
            return observations.state_BS[:, None] + told

        with contextlib.ExitStack() as stack:
            twin = TwinConfig(randomization="standard", image_size=64)
            envs = [stack.enter_context(WarpTwinVectorEnv(4 // num_cohorts, twin, ON_CPU)) for _ in range(num_cohorts)]
            assert all(isinstance(env, LaunchingEnv) for env in envs)
            run_episodes(envs, decide, [Episode("click_bell", seed) for seed in range(6)])
        return seen

    one, two = found(1), found(2)
    assert len(one) == 12
    assert one.keys() == two.keys()
    for key in one:
        for mine, theirs in zip(one[key], two[key], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_no_worlds_are_refused():
    with pytest.raises(VlaError, match="at least one world"):
        WarpTwinVectorEnv(0, TwinConfig())


def test_the_backend_of_the_twin_is_chosen_by_configuration(tmp_path):
    config = TrainGrpoConfig(checkpoint=tmp_path, backend="warp", warp=ON_CPU)
    policy = presets.tiny(DUAL_PIPER)
    with config.benchmark.open(policy, 2, None) as env:
        assert isinstance(env, WarpTwinVectorEnv)
        assert env.worlds.device.type == "cpu"
        assert env.image_size == policy.image_size
    assert config.benchmark.conditions() == {"randomization": "off", "backend": "warp"}
    assert EvaluateConfig(checkpoint=tmp_path).benchmark.conditions() == {"randomization": "off"}
    studio = config.benchmark.film_studio(policy)
    assert studio._worlds.num_slots == 1
    studio.close()


def test_backends_that_are_none_are_refused_with_a_choice(tmp_path):
    with pytest.raises(VlaError, match="backend 'gpu' does not exist; choose one of auto, mujoco, warp, mixed"):
        EvaluateConfig(checkpoint=tmp_path, backend="gpu")
    with pytest.raises(VlaError, match="backend 'warp' is the twin's; leave it out with LIBERO's tasks"):
        TrainGrpoConfig(checkpoint=tmp_path, tasks=("libero_object/0",), backend="warp")


def test_mixed_training_samples_on_both_backends_and_evaluates_on_one(tmp_path, monkeypatch):
    monkeypatch.setattr(find_task("click_bell"), "horizon", 8)
    config = TrainGrpoConfig(checkpoint=tmp_path, backend="mixed", warp=ON_CPU, num_slots=4, num_workers=1)
    policy: Any = SimpleNamespace(config=presets.tiny(DUAL_PIPER))
    source: Any
    with train_grpo._group_source(config, policy) as source:
        assert [type(env) for env in source._env] == [WarpTwinVectorEnv, TwinVectorEnv]
        assert [env.num_slots for env in source._env] == [2, 2]
        solved = []

        def decide(observations, trajectories):
            return observations.state_BS[:, None].repeat(8, 1)

        def on_finished(trajectory):
            solved.append((trajectory.episode.seed, trajectory.dropped))
            return ()

        run_episodes(source._env, decide, [Episode("click_bell", seed) for seed in range(4)], on_finished)
        assert sorted(solved) == [(seed, False) for seed in range(4)]
    assert config.benchmark.conditions() == {"randomization": "off", "backend": "mixed"}
    with pytest.raises(VlaError, match="backend mixed is for GRPO, which samples on both; choose mujoco or warp here"):
        EvaluateConfig(checkpoint=tmp_path, backend="mixed").benchmark.open(policy.config, 2, None)
    with pytest.raises(VlaError, match="1 worlds make no 2 cohorts"):
        TrainGrpoConfig(checkpoint=tmp_path, backend="mixed", num_slots=1)
