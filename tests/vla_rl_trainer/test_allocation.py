"""Rollouts go where groups disagree."""

import dataclasses
import json

import numpy as np
import pytest

from vla_policy.errors import VlaError
from vla_rl_trainer.allocation import FLOOR, TaskAllocator

TASKS = ("hard", "middling", "easy")


def trained(rates=(0.0, 0.5, 1.0), num_groups=30):
    allocator = TaskAllocator(TASKS)
    for _ in range(num_groups):
        for task, rate in zip(TASKS, rates, strict=True):
            allocator.update(task, [1.0] * round(8 * rate) + [0.0] * round(8 * (1 - rate)), kept=0 < rate < 1)
    return allocator


def test_nothing_is_preferred_before_anything_is_known():
    assert list(TaskAllocator(TASKS).probabilities().values()) == pytest.approx([1 / 3] * 3)


def test_tasks_near_half_are_preferred():
    shares = trained().probabilities()
    assert shares["middling"] > 0.8
    assert sum(shares.values()) == pytest.approx(1.0)


def test_no_task_is_given_up():
    shares = trained(num_groups=2000).probabilities()
    assert min(shares.values()) >= FLOOR / len(TASKS)
    rng = np.random.default_rng(0)
    allocator = trained(num_groups=2000)
    assert {allocator.draw(rng) for _ in range(200)} == set(TASKS)


def test_a_half_solved_task_beats_one_solved_nine_times_out_of_ten():
    shares = trained((0.125, 0.5, 0.875)).probabilities()
    assert shares["middling"] > 1.5 * shares["hard"]
    assert shares["hard"] == pytest.approx(shares["easy"])


def test_old_outcomes_are_forgotten():
    allocator = trained()
    before = allocator.probabilities()["hard"]
    for _ in range(60):
        allocator.update("hard", [1.0, 0.0] * 4, kept=True)
    assert allocator.probabilities()["hard"] > 3 * before
    assert allocator.successes["hard"] + allocator.failures["hard"] < 8 / (1 - 0.98)


def test_groups_cut_short_count_for_as_many_episodes_as_were_run():
    allocator = TaskAllocator(TASKS)
    allocator.update("easy", [1.0] * 4, kept=False)
    assert allocator.successes == {"easy": 4.0}
    assert allocator.failures == {"easy": 0.0}


def test_uniform_ignores_what_it_learns():
    allocator = dataclasses.replace(trained(), uniform=True)
    assert list(allocator.probabilities().values()) == pytest.approx([1 / 3] * 3)


def test_the_chance_that_a_group_is_kept_is_counted_per_task():
    assert TaskAllocator(TASKS).keep_chance("easy") == 0.5
    assert trained().keep_chance("easy") < 0.05 < 0.95 < trained().keep_chance("middling")
    assert trained(num_groups=1000).keep_chance("hard") > 0.0


def test_half_solved_worlds_of_which_each_is_always_or_never_solved_are_not_expected_to_be_kept():
    allocator = TaskAllocator(("easy",))
    for _ in range(30):
        allocator.update("easy", [1.0] * 4, kept=False)
        allocator.update("easy", [0.0] * 4, kept=False)
    assert allocator.keep_chance("easy") < 0.05


def test_draws_are_reproduced_by_the_generator_and_follow_the_shares():
    allocator = trained()
    drawn = [allocator.draw(np.random.default_rng(3)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    rng = np.random.default_rng(0)
    many = [allocator.draw(rng) for _ in range(2000)]
    assert many.count("middling") / 2000 == pytest.approx(allocator.probabilities()["middling"], abs=0.03)


def test_json_holds_all_there_is_to_restore():
    allocator = trained(num_groups=3)
    restored = TaskAllocator(TASKS)
    restored.restore(json.loads(json.dumps(allocator.state())))
    assert restored == allocator


@pytest.mark.parametrize("tasks", [(), ("a", "b", "a")])
def test_lists_from_which_no_task_can_be_drawn_are_refused(tasks):
    with pytest.raises(VlaError, match="name at least one, and each once"):
        TaskAllocator(tasks)
