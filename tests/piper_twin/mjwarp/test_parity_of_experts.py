"""Experts on both backends: the same plans, counted world by world."""

import dataclasses

import pytest

pytest.importorskip("mujoco_warp", reason='install it with pip install -c constraints.txt -e ".[warp]"')

from rich.console import Console

from piper_twin.mjwarp import parity
from piper_twin.mjwarp.parity import ParityConfig, table_of, warp_rates
from piper_twin.rates import ExpertRate, Try, expert_rates


def printed(table) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_expert_needs_the_same_steps_in_the_same_worlds(anywhere):
    config = ParityConfig(num_seeds=3, num_slots=2, num_workers=1, warp=anywhere)
    mujoco, warp = expert_rates(config), warp_rates(config)
    assert warp == mujoco
    assert warp[0].num_successes == 3
    assert all(one.num_steps > 10 for one in warp[0].tries)


def test_a_plan_that_there_is_not_is_a_failure_beside_others_that_go_on(anywhere, monkeypatch):
    config = ParityConfig(num_seeds=2, num_workers=1, warp=anywhere)
    own = parity.plan_of

    def plan_of(episode, randomization):
        plan = own(episode, randomization)
        return plan[:0] if episode.seed == 0 else plan

    monkeypatch.setattr(parity, "plan_of", plan_of)
    (rate,) = warp_rates(config)
    assert [(one.success, one.num_steps > 0) for one in rate.tries] == [(False, False), (True, True)]


def test_the_table_tells_where_intervals_part_and_which_worlds_end_otherwise():
    def rate(successes):
        return ExpertRate("click_bell", tuple(Try("click_bell", number < successes, 20) for number in range(100)))

    assert "NO" not in printed(table_of([rate(95)], [rate(97)]))
    parted = printed(table_of([rate(95)], [rate(50)]))
    assert "NO" in parted
    assert " 45 " in parted


def test_it_takes_what_rates_take():
    assert {field.name for field in dataclasses.fields(ParityConfig)} >= {"tasks", "num_seeds", "randomization", "warp"}
