"""Collecting groups: which are kept, what is started when, and what is remembered of it."""

import copy
import dataclasses
import math
import threading

import numpy as np
import pytest
import torch

from piper_twin.episode import Episode
from piper_twin.worlds import TwinConfig
from vla_policy.errors import VlaError
from vla_rl_trainer.allocation import TaskAllocator
from vla_rl_trainer.collect_statistics import CollectStatistics
from vla_rl_trainer.envs.twin_env import TwinVectorEnv
from vla_rl_trainer.group_collector import GroupCollector, GroupConfig
from vla_rl_trainer.rollout import greedy, run_episodes, sampling

WORLDS = ("00000000", "11111111", "01001010", "10110111", "11110000", "00001111", "10000000")
"""Two worlds all agree in, two look decided after their first half of eight but are not, three are mixed early."""


def hold(observations, trajectories):
    return np.zeros((len(trajectories), 4, 3), dtype=np.float32)


def collector_of(env, allocator=None, **config):
    return GroupCollector(env, GroupConfig(**config), allocator or TaskAllocator(("bell",)))


def collect(toys, script, num_groups, slots=16, **config):
    env = toys.ScriptedEnv(slots, script)
    groups, statistics = collector_of(env, **config).collect(hold, num_groups, np.random.default_rng(0))
    env.close()
    return groups, statistics, env


def fields_of(trajectory):
    tensors = [trajectory.indices, trajectory.log_probs, [one.images_BCHW3 for one in trajectory.inputs]]
    return (
        (trajectory.episode, trajectory.steps, trajectory.success, trajectory.dropped, trajectory.signals),
        [tensor for part in tensors for tensor in part],
    )


def require_equal(one, other):
    assert len(one) == len(other)
    for group, twin in zip(one, other, strict=True):
        assert len(group.trajectories) == len(twin.trajectories)
        for mine, theirs in zip(group.trajectories, twin.trajectories, strict=True):
            assert fields_of(mine)[0] == fields_of(theirs)[0]
            assert all(torch.equal(a, b) for a, b in zip(fields_of(mine)[1], fields_of(theirs)[1], strict=True))


def test_only_groups_that_disagree_are_kept(toys):
    groups, statistics, _ = collect(toys, toys.pattern(*WORLDS), 5, stop_decided=False)
    for group in groups:
        assert len(group.trajectories) == 8
        assert 0.1 <= np.mean(group.rewards) <= 0.9
        assert {trajectory.episode for trajectory in group.trajectories} == {group.episode}
    assert statistics.num_all_failed >= 1
    assert statistics.num_all_solved >= 1
    assert statistics.num_stopped == 0


@pytest.mark.parametrize(("successes", "kept"), [(0, False), (1, True), (9, True), (10, False)])
def test_the_bounds_are_inclusive(toys, successes, kept):
    script = toys.pattern("1" * successes + "0" * (10 - successes))
    groups, statistics, _ = collect(toys, script, 1, slots=10, group_size=10, stop_decided=False, max_groups=1)
    assert len(groups) == kept
    assert statistics.hit_group_limit is not kept


def test_mixed_groups_outside_the_bounds_are_dropped_and_counted(toys):
    groups, statistics, _ = collect(
        toys, toys.pattern("1" + "0" * 19), 1, group_size=20, stop_decided=False, max_groups=2
    )
    assert not groups
    assert statistics.num_outside_bounds == 2


def test_decided_groups_stop_after_their_first_half(toys):
    groups, statistics, env = collect(toys, toys.pattern(*WORLDS), 3)
    for episode, tries in env.tries.items():
        assert tries == (4 if len(set(WORLDS[episode.seed % len(WORLDS)][:4])) == 1 else 8)
    assert statistics.num_stopped == sum(tries == 4 for tries in env.tries.values()) > 0
    assert all(len(group.rewards) == 8 for group in groups)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_small_groups_are_not_stopped_before_two_members_can_disagree(toys, size):
    groups, statistics, _ = collect(toys, toys.pattern("10101"), 2, group_size=size)
    assert [len(group.rewards) for group in groups] == [size] * 2
    assert statistics.num_stopped == 0
    assert GroupConfig(group_size=size).first_part == 2


def test_all_that_is_started_is_accounted_for(toys):
    lost = "xxxxxxxx"
    groups, statistics, env = collect(toys, toys.pattern(*WORLDS, lost, "1xx01110"), 8)
    assert statistics.num_groups == len(env.tries)
    kept_now = (
        len(groups)
        + statistics.num_groups
        - sum(
            (statistics.num_all_solved, statistics.num_all_failed, statistics.num_outside_bounds, statistics.num_lost)
        )
    )
    assert kept_now >= 2 * len(groups)  # equality when no surplus is left
    assert statistics.num_episodes + statistics.num_dropped_episodes == len(env.started) == sum(env.tries.values())
    assert statistics.num_chunks == sum(env.busy)
    assert statistics.num_lost > 0


def test_surplus_groups_open_the_next_collection(toys):
    env = toys.ScriptedEnv(64, toys.pattern("10100101"))
    collector = collector_of(env)
    first, statistics = collector.collect(hold, 1, np.random.default_rng(0), 3)
    assert (len(first), len(collector.surplus), statistics.num_surplus) == (1, 1, 0)
    surplus, starts = collector.surplus[0], len(env.started)
    second, statistics = collector.collect(hold, 1, np.random.default_rng(1), 4)
    assert second == [surplus]
    assert second[0].policy_version == 3
    assert (len(env.started), statistics.num_groups, statistics.num_surplus) == (starts, 0, 1)
    assert collector.surplus == []
    assert math.isnan(statistics.success_rate)
    third, _ = collector.collect(hold, 1, np.random.default_rng(2), 5)
    assert third[0].policy_version == 5


def test_the_paper_throws_surplus_away(toys):
    collector = collector_of(toys.ScriptedEnv(64, toys.pattern("10100101")), carry_surplus=False)
    collector.collect(hold, 1, np.random.default_rng(0))
    assert collector.surplus == []


def test_an_interrupted_collection_leaves_the_surplus_as_it_was(toys):
    env = toys.ScriptedEnv(16, toys.pattern("10100101"))
    collector = collector_of(env)
    collector.collect(hold, 1, np.random.default_rng(0))
    before = list(collector.surplus)

    def interrupted(observations, trajectories):
        if len(env.busy) > 20:
            raise KeyboardInterrupt
        return hold(observations, trajectories)

    with pytest.raises(KeyboardInterrupt):
        collector.collect(interrupted, 50, np.random.default_rng(1))
    assert collector.surplus == before


def test_no_more_is_started_than_is_expected_to_be_needed(toys):
    _, statistics, _ = collect(toys, toys.pattern("10100101"), 4, slots=1000)
    assert statistics.num_groups == 8  # 4 / 0.5, the chance that a group is kept before anything is known


def test_groups_known_to_disagree_need_no_replacement(toys):
    _, statistics, _ = collect(toys, toys.pattern("10100101"), 1, slots=2)
    assert statistics.num_groups == 1


def test_finished_worlds_are_refilled_at_once(toys):
    env = toys.ScriptedEnv(3, lambda episode, attempt: toys.Part(success=True, chunks=1 + episode.seed % 5))
    episodes = [Episode("bell", seed) for seed in range(20)]
    run_episodes(env, hold, episodes)
    waiting = len([count for count in env.busy if count < 3])
    assert env.started == episodes
    assert sum(env.busy) == sum(1 + seed % 5 for seed in range(20))
    assert env.busy[-waiting:] == sorted(env.busy, reverse=True)[-waiting:]  # idle only when nothing waits
    assert waiting <= 4


def test_groups_fill_the_slots_while_more_are_needed(toys):
    _, _, env = collect(toys, toys.pattern(*WORLDS), 20, slots=8)
    busy = env.busy[: int(0.8 * len(env.busy))]
    assert np.mean(busy) > 7.5


def test_the_group_limit_is_reported(toys):
    groups, statistics, _ = collect(toys, toys.pattern("00000000"), 3, max_groups=5)
    assert groups == []
    assert statistics.hit_group_limit
    assert (statistics.num_groups, statistics.num_all_failed, statistics.num_stopped) == (5, 5, 5)
    groups, statistics, _ = collect(toys, toys.pattern("10100101"), 3, max_groups=5)
    assert not statistics.hit_group_limit


def test_dropped_episodes_count_for_nothing(toys):
    allocator = TaskAllocator(("bell",))
    env = toys.ScriptedEnv(8, toys.pattern("10x0"))
    collector = collector_of(env, allocator, group_size=4, stop_decided=False)
    groups, statistics = collector.collect(hold, 1, np.random.default_rng(0))
    assert sorted(groups[0].rewards) == [0.0, 0.0, 1.0]
    assert len(groups[0].trajectories) == 4
    assert (statistics.num_episodes, statistics.num_successes) == (3 * statistics.num_groups, statistics.num_groups)
    assert statistics.num_dropped_episodes == statistics.num_groups
    assert allocator.successes["bell"] + allocator.failures["bell"] < 3 * statistics.num_groups + 1e-9


def test_a_world_that_breaks_down_while_it_succeeds_is_no_success(toys):
    env = toys.ScriptedEnv(1, lambda episode, attempt: toys.Part(success=True, dropped=True))
    finished = []
    run_episodes(env, hold, [Episode("bell", 0)], lambda trajectory: finished.append(trajectory) or ())
    assert finished[0].dropped
    assert not finished[0].success


def test_a_group_whose_worlds_broke_down_is_not_taken_for_decided(toys):
    _, statistics, env = collect(toys, toys.pattern("0xxx1010"), 1)
    assert statistics.num_stopped == 0
    assert env.tries[Episode("bell", 0)] == 8
    _, statistics, _ = collect(toys, toys.pattern("xxxxxxx1"), 1, max_groups=2)
    assert (statistics.num_lost, statistics.num_all_solved) == (2, 0)


def test_the_success_rate_is_not_bent_by_stopping(toys):
    # half of the worlds are never solved and are stopped, the others are run to the end
    _, statistics, _ = collect(toys, toys.pattern("00000000", "10101010"), 4, slots=4)
    first = statistics.num_first_episodes
    assert first == 4 * statistics.num_groups
    assert statistics.success_rate == pytest.approx(0.25, abs=0.5 / statistics.num_groups)
    assert statistics.num_successes / statistics.num_episodes > statistics.success_rate + 0.05


def test_outcomes_reach_the_trajectory(toys):
    env = toys.ScriptedEnv(2, toys.pattern("1", "0"))
    finished = []
    run_episodes(env, hold, [Episode("bell", 0), Episode("bell", 1)], lambda one: finished.append(one) or ())
    solved, failed = finished
    assert (solved.success, solved.steps, solved.signals, solved.refused) == (True, [1], {"touched"}, 1)
    assert (failed.success, failed.steps, failed.signals, failed.refused) == (False, [4, 1], set(), 2)
    assert failed.num_steps == 5
    assert failed.inputs == []


def test_a_finished_episode_may_ask_for_others(toys):
    env = toys.ScriptedEnv(2, toys.pattern("1", "0"))
    wanted = [Episode("bell", seed) for seed in range(6)]
    run_episodes(env, hold, wanted[:1], lambda one: wanted[one.episode.seed + 1 : one.episode.seed + 2])
    assert env.started == wanted


def test_sampling_is_remembered_chunk_by_chunk(toys, policy, in_float32):
    groups = toys.sample_groups(policy, 2)
    for trajectory in (member for group in groups for member in group.trajectories):
        count = len(trajectory.steps)
        assert len(trajectory.inputs) == len(trajectory.indices) == len(trajectory.log_probs) == count
        for inputs, indices, log_probs in zip(trajectory.inputs, trajectory.indices, trajectory.log_probs, strict=True):
            assert (indices.dtype, log_probs.dtype) == (torch.uint8, torch.float32)
            again = policy.log_probs(inputs, indices[None].long(), 1.6)
            assert torch.allclose(again[0], log_probs, atol=1e-5)


def test_a_recorded_chunk_keeps_no_other_pixels_alive(toys, policy):
    groups = toys.sample_groups(policy, 2)
    for trajectory in (member for group in groups for member in group.trajectories):
        for inputs in trajectory.inputs:
            assert inputs.prompt_mask_BL.all()
            pixels = inputs.images_BCHW3
            assert pixels.untyped_storage().nbytes() == pixels.nbytes


def test_nothing_is_kept_of_dropped_episodes(toys, policy):
    groups = toys.sample_groups(policy, 1, toys.pattern("10x0"))
    dropped = [trajectory for trajectory in groups[0].trajectories if trajectory.dropped]
    assert len(dropped) == 1
    assert not dropped[0].inputs
    assert not dropped[0].indices
    assert not dropped[0].log_probs


def test_collections_are_reproduced_by_their_seeds(toys, policy):
    require_equal(toys.sample_groups(policy, 3), toys.sample_groups(policy, 3))
    other = toys.sample_groups(policy, 3, version=1)
    assert not torch.equal(
        other[0].trajectories[0].indices[0], toys.sample_groups(policy, 3)[0].trajectories[0].indices[0]
    )


def test_seeds_of_worlds_are_never_used_twice(toys):
    env = toys.ScriptedEnv(16, toys.pattern(*WORLDS))
    collector = collector_of(env, TaskAllocator(("bell", "cup")))
    seen = set()
    for step in range(3):
        before = collector.next_seed
        _, statistics = collector.collect(hold, 3, np.random.default_rng(step))
        assert collector.next_seed == before + statistics.num_groups
    seen = {episode.seed for episode in env.started}
    assert seen == set(range(collector.next_seed))
    assert all(episode.split == "train" for episode in env.started)


def test_a_collection_goes_on_from_what_can_be_stored(toys):
    """Surplus, next seed, allocator and generators are all the state there is."""
    env = toys.ScriptedEnv(16, toys.pattern(*WORLDS))
    collector, rng = collector_of(env), np.random.default_rng(0)
    collector.collect(hold, 3, rng)
    stored = copy.deepcopy((collector.surplus, collector.next_seed, collector._allocator, rng))
    unbroken, _ = collector.collect(hold, 3, rng)
    surplus, next_seed, allocator, rng = stored
    resumed = collector_of(toys.ScriptedEnv(16, toys.pattern(*WORLDS)), allocator)
    resumed.surplus, resumed.next_seed = surplus, next_seed
    again, _ = resumed.collect(hold, 3, rng)
    assert [group.episode for group in unbroken] == [group.episode for group in again]


def test_greedy_decides_as_the_policy_does(toys, policy):
    env = toys.ScriptedEnv(2, toys.pattern("1"))
    observations = env.reset([0, 1], [Episode("bell", 0), Episode("bell", 1)])
    inputs = policy.inputs_from_arrays(observations.images_BCHW3, observations.state_BS, observations.instructions)
    assert np.array_equal(greedy(policy)(observations, []), policy.act(inputs, observations.state_BS))


@pytest.mark.parametrize(
    "wrong", [{"group_size": 1}, {"max_groups": 0}, {"lower_bound": -0.1}, {"lower_bound": 0.9, "upper_bound": 0.1}]
)
def test_groups_that_could_never_be_kept_are_refused(wrong):
    with pytest.raises(VlaError, match="give"):
        GroupConfig(**wrong)


def test_nothing_run_is_no_success_rate():
    assert math.isnan(CollectStatistics().success_rate)


@pytest.mark.sim
def test_groups_of_the_twin_do_not_depend_on_the_number_of_workers(toys):
    from piper_twin.robot import DUAL_PIPER
    from vla_policy.config import VlaConfig
    from vla_policy.normalization import DatasetStatistics, Statistics
    from vla_policy.policy import VlaPolicy

    spread = np.linspace([-0.3] * 14, [0.3] * 14, 11)
    network = VlaConfig(
        camera_names=DUAL_PIPER.camera_names, image_size=16, vision_channels=(8, 16), hidden_size=32, num_layers=1,
        num_heads=2, intermediate_size=48, chunk_length=8, action_dim=14, state_dim=14, text_vocab_size=320,
    )  # fmt: skip
    statistics = DatasetStatistics(
        action=Statistics.of(spread), proprio=Statistics.of(spread), num_transitions=11, num_trajectories=1
    )
    policy = VlaPolicy.create(network, DUAL_PIPER, statistics, toys.TOKENIZER)
    collected = []
    for num_workers in (1, 2):
        with TwinVectorEnv(5, TwinConfig(randomization="standard", image_size=16), num_workers=num_workers) as env:
            collector = GroupCollector(
                env,
                GroupConfig(group_size=2, stop_decided=False, lower_bound=0.0, upper_bound=1.0),
                TaskAllocator(("click_bell",)),
            )
            decide = sampling(policy, 1.6, torch.Generator().manual_seed(0))
            collected.append(collector.collect(decide, 2, np.random.default_rng(0))[0])
    assert len(collected[0]) == 2
    assert sum(trajectory.num_steps for group in collected[0] for trajectory in group.trajectories) > 100
    require_equal(*collected)


def test_images_that_come_as_tensors_reach_the_policy_as_a_tensor(toys):
    env, seen = toys.ScriptedEnv(3, toys.pattern("10")), []

    def as_tensors(observations):
        return dataclasses.replace(observations, images_BCHW3=torch.from_numpy(observations.images_BCHW3))

    class OnADevice:
        num_slots = env.num_slots

        def reset(self, slots, episodes):
            return as_tensors(env.reset(slots, episodes))

        def step_chunk(self, slots, actions):
            observations, outcome = env.step_chunk(slots, actions)
            return as_tensors(observations), outcome

    def decide(observations, trajectories):
        seen.append(observations.images_BCHW3)
        return hold(observations, trajectories)

    run_episodes(OnADevice(), decide, [Episode("bell", seed) for seed in range(4)])
    assert all(isinstance(images, torch.Tensor) and images.dtype == torch.uint8 for images in seen)
    assert len(seen[0]) == 3


def test_worlds_of_one_cohort_move_while_the_policy_thinks_about_the_other(toys):
    thought = threading.Event()

    class Waiting(toys.ScriptedEnv):
        def step_chunk(self, slots, actions):
            assert thought.wait(30.0), "the policy waited for these worlds"
            return super().step_chunk(slots, actions)

    envs = [Waiting(2, toys.pattern("10")), toys.ScriptedEnv(2, toys.pattern("10"))]
    finished, asked = [], []

    def decide(observations, trajectories):
        asked.append(len(trajectories))
        if len(asked) == 2:
            thought.set()
        return hold(observations, trajectories)

    def on_finished(trajectory):
        finished.append(trajectory.episode.seed)
        return ()

    run_episodes(envs, decide, [Episode("bell", seed) for seed in range(7)], on_finished)
    assert sorted(finished) == list(range(7))
    assert asked[:2] == [2, 2]


def test_cohorts_change_nothing_about_what_a_collection_finds(toys, policy):
    def collect(count):
        envs = [toys.ScriptedEnv(8 // count, toys.pattern("1010", "0110", "1001")) for _ in range(count)]
        collector = collector_of(envs, group_size=4, stop_decided=False)
        decide = sampling(policy, 1.6, torch.Generator().manual_seed(0))
        groups, statistics = collector.collect(decide, 3, np.random.default_rng(0))
        for env in envs:
            env.close()
        return groups, statistics

    (alone, _), (first, statistics), (again, _) = collect(1), collect(2), collect(2)
    assert {group.episode for group in alone} == {group.episode for group in first}
    assert all(len(group.trajectories) == 4 for group in first)
    require_equal(first, again)
    assert statistics.num_episodes == 4 * statistics.num_groups
