"""Worker processes change nothing but speed: not the results, and not the run when one of them dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from piper_twin.episode import Episode
from piper_twin.robot import ARMS, HOME
from piper_twin.worlds import ChunkOutcome, TwinConfig
from vla_policy.errors import VlaError
from vla_rl_trainer.envs.twin_env import TwinVectorEnv
from vla_rl_trainer.envs.vector_env import Observations

pytestmark = pytest.mark.sim

BLIND = TwinConfig(images=False)
BOTH_HOME = np.tile(HOME, len(ARMS)).astype(np.float32)


def bells(count: int, first: int = 0) -> list[Episode]:
    return [Episode("click_bell", first + seed) for seed in range(count)]


def hold(count: int, length: int = 4) -> np.ndarray:
    return np.tile(BOTH_HOME, (count, length, 1))


def motion(state_BS: np.ndarray, length: int = 8) -> np.ndarray:
    steps = np.random.default_rng(0).normal(0.0, 0.01, (len(state_BS), length, 14)).cumsum(axis=1)
    return (state_BS[:, None] + steps).astype(np.float32)


def pids(env: TwinVectorEnv) -> list[int]:
    return [worker.process_id for worker in env._workers]


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def arrays_of(observations: Observations, outcome: ChunkOutcome | None = None) -> list[np.ndarray]:
    arrays = [observations.images_BCHW3, observations.state_BS, np.array(observations.instructions)]
    if outcome is not None:
        names = ("success_B", "done_B", "dropped_B", "steps_B", "sent_BKA", "refused_B")
        arrays += [getattr(outcome, name) for name in names]
        arrays.append(np.array([sorted(signals.items()) for signals in outcome.signals]))
    return arrays


def play(num_workers: int) -> list[np.ndarray]:
    """Everything that five worlds show in two chunks, one of them reset in between."""
    config = TwinConfig(randomization="wide", image_size=32)
    with TwinVectorEnv(5, config, num_workers=num_workers) as env:
        seen = env.reset(range(5), bells(5))
        found = arrays_of(seen)
        seen, outcome = env.step_chunk(range(5), motion(seen.state_BS))
        found += arrays_of(seen, outcome)
        found += arrays_of(env.reset([3], bells(1, first=9)))
        found += arrays_of(*env.step_chunk([4, 3, 0], motion(seen.state_BS[[4, 3, 0]])))
    return found


@pytest.fixture(scope="module")
def played_by_one():
    return play(1)


def test_a_worker_starts_without_torch_and_without_the_experts_inverse_kinematics():
    heavy = ("torch", "mink", "scipy")
    code = f"import sys, vla_rl_trainer.envs.worker; print(*[name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


@pytest.mark.parametrize("num_workers", [2, 3])
def test_any_number_of_workers_gives_the_same_results_bit_for_bit(played_by_one, num_workers):
    for one, other in zip(played_by_one, play(num_workers), strict=True):
        np.testing.assert_array_equal(one, other)


def test_images_are_no_empty_pictures(played_by_one):
    images = played_by_one[0]
    assert images.shape == (5, 3, 32, 32, 3)
    assert (images.std(axis=(2, 3)) > 5).all()


@pytest.fixture(scope="module")
def env():
    """For tests that leave every worker alive."""
    with TwinVectorEnv(5, BLIND, num_workers=2, answer_timeout=60.0) as made:
        yield made
        assert made.num_restarts == 0


@pytest.fixture
def doomed():
    """For tests that kill workers."""
    with TwinVectorEnv(5, BLIND, num_workers=2, answer_timeout=60.0) as made:
        yield made


def test_answers_keep_the_order_of_the_slots_asked_for(env):
    env.reset([4, 2, 0, 1, 3], [Episode("click_bell", seed) for seed in (4, 2, 0, 1, 3)])
    actions = hold(5)
    actions[:, :, 0] += np.arange(5, dtype=np.float32)[:, None] * 1e-3  # slot number as the turn of joint 1
    slots = [3, 0, 4, 1]
    _, outcome = env.step_chunk(slots, actions[slots])
    np.testing.assert_allclose(outcome.sent_BKA[:, -1, 0], np.array(slots) * 1e-3, atol=1e-7)
    assert len(outcome.signals) == 4


def test_without_images_observations_carry_empty_ones(env):
    assert env.reset([0], bells(1)).images_BCHW3.shape == (1, 3, 0, 0, 3)


def test_a_killed_worker_is_replaced_and_only_its_episodes_are_dropped(doomed):
    doomed.reset(range(5), bells(5))
    os.kill(pids(doomed)[1], signal.SIGKILL)
    _, outcome = doomed.step_chunk(range(5), hold(5))
    np.testing.assert_array_equal(outcome.dropped_B, [False, True, False, True, False])
    np.testing.assert_array_equal(outcome.done_B, outcome.dropped_B)
    np.testing.assert_array_equal(outcome.steps_B, [4, 0, 4, 0, 4])
    assert not outcome.success_B.any()
    assert doomed.num_restarts == 1
    doomed.reset([1, 3], bells(2, first=7))
    _, outcome = doomed.step_chunk(range(5), hold(5))
    assert not outcome.dropped_B.any()
    assert doomed.num_restarts == 1


def test_a_worker_that_dies_while_others_are_stepped_loses_its_worlds_once_and_no_more(doomed):
    doomed.reset(range(5), bells(5))
    os.kill(pids(doomed)[1], signal.SIGKILL)
    _, outcome = doomed.step_chunk([0, 1], hold(2))
    np.testing.assert_array_equal(outcome.dropped_B, [False, True])
    doomed.reset([1], bells(1))  # slot 3 went down with the same worker and is still waiting
    _, outcome = doomed.step_chunk([1, 3], hold(2))
    np.testing.assert_array_equal(outcome.dropped_B, [False, True])
    assert doomed.num_restarts == 1


def test_a_worker_killed_before_a_reset_costs_no_episode_of_that_reset(doomed):
    doomed.reset(range(5), bells(5))
    os.kill(pids(doomed)[0], signal.SIGKILL)
    seen = doomed.reset([0, 2], bells(2))
    np.testing.assert_allclose(seen.state_BS, np.tile(BOTH_HOME, (2, 1)), atol=1e-3)
    _, outcome = doomed.step_chunk(range(5), hold(5))
    np.testing.assert_array_equal(outcome.dropped_B, [False, False, False, False, True])


def test_a_replaced_worker_gives_the_same_worlds(doomed):
    seen = doomed.reset(range(5), bells(5))
    expected, _ = doomed.step_chunk(range(5), motion(seen.state_BS))
    os.kill(pids(doomed)[1], signal.SIGKILL)
    doomed.step_chunk([1], hold(1))
    doomed.reset(range(5), bells(5))
    found, _ = doomed.step_chunk(range(5), motion(seen.state_BS))
    np.testing.assert_array_equal(found.state_BS, expected.state_BS)


def test_a_hung_worker_is_replaced():
    with TwinVectorEnv(2, BLIND, num_workers=2, answer_timeout=5.0) as env:
        env.reset([0, 1], bells(2))
        env._workers[0]._answer_timeout = 0.3
        hung = pids(env)[0]
        os.kill(hung, signal.SIGSTOP)
        _, outcome = env.step_chunk([0, 1], hold(2))
        np.testing.assert_array_equal(outcome.dropped_B, [True, False])
        assert not is_running(hung)
        env.reset([0], bells(1))
        assert not env.step_chunk([0, 1], hold(2))[1].dropped_B.any()


def test_a_worker_that_dies_again_and_again_ends_the_run_with_the_reason(doomed, monkeypatch):
    doomed.reset(range(5), bells(5))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    os.kill(pids(doomed)[0], signal.SIGKILL)
    with pytest.raises(VlaError, match="worker 0 died 3 times in a row"):
        doomed.reset([0], bells(1))


def test_a_refusal_reaches_the_trainer_and_leaves_the_other_workers_in_step(env):
    env.reset(range(5), bells(5))
    with pytest.raises(VlaError, match="task 'fly' does not exist"):
        env.reset([0, 1], [Episode("fly", 0), Episode("click_bell", 0)])
    _, outcome = env.step_chunk([1, 2, 3], hold(3))
    np.testing.assert_array_equal(outcome.steps_B, 4)


def test_experts_show_their_episodes_in_the_order_asked_for(env):
    episodes = [Episode("click_bell", seed, "demonstration") for seed in (3, 0, 4, 1, 0)]
    shown = env.demonstrate(episodes, look_every=None)
    assert [demonstration.success for demonstration in shown] == [True] * 5
    np.testing.assert_array_equal(shown[1].action_TA, shown[4].action_TA)
    alone = env.demonstrate(episodes[2:3], look_every=None)[0]
    np.testing.assert_array_equal(alone.state_TS, shown[2].state_TS)


def test_an_expert_whose_worker_dies_is_asked_again(doomed):
    expected = doomed.demonstrate(bells(3), look_every=None)
    os.kill(pids(doomed)[1], signal.SIGKILL)
    for one, other in zip(doomed.demonstrate(bells(3), look_every=None), expected, strict=True):
        np.testing.assert_array_equal(one.action_TA, other.action_TA)
    assert doomed.num_restarts == 1


def test_episodes_that_gave_way_to_an_expert_are_reported_as_dropped(env):
    env.reset(range(5), bells(5))
    env.demonstrate(bells(1), look_every=None)
    _, outcome = env.step_chunk(range(5), hold(5))
    np.testing.assert_array_equal(outcome.dropped_B, [True, False, False, False, False])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_slots": 0}, "num_slots is 0"), ({"num_slots": 2, "num_workers": 0}, "num_workers is 0")],
)
def test_counts_below_one_are_refused(options, message):
    with pytest.raises(VlaError, match=message):
        TwinVectorEnv(config=BLIND, **options)


def test_a_chunk_that_does_not_fit_is_refused_with_the_remedy(env):
    env.reset([0], bells(1))
    with pytest.raises(VlaError, match="max_chunk=33"):
        env.step_chunk([0], hold(1, 33))


def test_there_are_no_more_workers_than_slots():
    with TwinVectorEnv(1, BLIND, num_workers=4) as env:
        assert env.num_workers == 1


def open_files() -> set[str]:
    return {f"{entry.name} {entry.readlink()}" for entry in Path("/proc/self/fd").iterdir() if entry.exists()}


def test_closing_leaves_no_process_and_no_file_descriptor_behind():
    before = open_files()
    env = TwinVectorEnv(4, TwinConfig(image_size=32), num_workers=2)
    env.reset(range(4), bells(4))
    workers = pids(env)
    env.close()
    env.close()
    assert not any(is_running(pid) for pid in workers)
    assert open_files() <= before


def test_workers_end_when_the_trainer_is_killed():
    code = """
import sys, time
from piper_twin.episode import Episode
from piper_twin.worlds import TwinConfig
from vla_rl_trainer.envs.twin_env import TwinVectorEnv
env = TwinVectorEnv(2, TwinConfig(images=False), num_workers=2)
env.reset([0, 1], [Episode("click_bell", 0), Episode("click_bell", 1)])
print(*(worker.process_id for worker in env._workers), flush=True)
time.sleep(60)
"""
    trainer = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with trainer:
        workers = [int(pid) for pid in trainer.stdout.readline().split()]
        assert len(workers) == 2
        assert all(is_running(pid) for pid in workers)
        trainer.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not any(is_running(pid) for pid in workers))


def test_a_worker_loads_neither_torch_nor_ros(env):
    env.reset(range(5), bells(5))
    for pid in pids(env):
        libraries = Path(f"/proc/{pid}/maps").read_text()
        assert "mujoco" in libraries
        assert "torch" not in libraries
        assert "rclpy" not in libraries
