"""Commands arrive late by whole physics steps, grippers lag, zeros are off."""

import dataclasses

import numpy as np
import pytest

from piper_twin.cell import TIMESTEP
from piper_twin.command_line import MAX_DELAY, CommandLine, arrive
from piper_twin.randomization import LEVELS, Variation

EXACT = Variation(model_fields={}, joint_offset=np.zeros(14), latency=0.0, gripper_lag=0.0, image_noise=0.0)
REST = np.linspace(0.1, 1.4, 14)
ARM_COLUMNS = [*range(6), *range(7, 13)]


def line(**differences) -> CommandLine:
    return CommandLine(REST, dataclasses.replace(EXACT, **differences))


def ramp(count: int) -> np.ndarray:
    return REST + np.arange(1, count + 1)[:, None] * 0.01


def test_an_exact_line_hands_commands_through():
    np.testing.assert_array_equal(arrive([line()], ramp(7)[None]), ramp(7)[None])


@pytest.mark.parametrize("num_steps", [0, 1, 10, 30])
def test_latency_delays_by_the_right_number_of_physics_steps(num_steps):
    late = line(latency=num_steps * TIMESTEP)
    arrived = np.concatenate([arrive([late], part[None])[0] for part in np.split(ramp(80), 4)])
    np.testing.assert_array_equal(arrived[:num_steps], np.tile(REST, (num_steps, 1)))
    np.testing.assert_array_equal(arrived[num_steps:], ramp(80)[: 80 - num_steps])


def test_every_level_has_a_latency_that_can_be_simulated():
    assert all(level.max_latency <= MAX_DELAY * TIMESTEP for level in LEVELS.values())


def test_a_lagging_gripper_goes_63_percent_of_a_step_in_its_time_constant():
    sent = np.tile(REST, (100, 1))
    sent[:, 6] += 1.0
    arrived = arrive([line(gripper_lag=0.1)], sent[None])[0]
    assert arrived[24, 6] - REST[6] == pytest.approx(1 - np.exp(-1), abs=0.01)
    assert arrived[-1, 6] - REST[6] == pytest.approx(1.0, abs=0.02)
    np.testing.assert_array_equal(arrived[:, [*ARM_COLUMNS, 13]], sent[:, [*ARM_COLUMNS, 13]])


def test_lag_goes_on_where_the_last_chunk_ended():
    sent = np.tile(REST, (40, 1))
    sent[:, [6, 13]] += 1.0
    whole, parts = line(gripper_lag=0.1), line(gripper_lag=0.1)
    expected = arrive([whole], sent[None])[0]
    found = np.concatenate([arrive([parts], part[None])[0] for part in np.split(sent, 4)])
    np.testing.assert_array_equal(found, expected)


def test_a_zero_error_is_added_to_every_command():
    offset = np.linspace(-0.02, 0.02, 14)
    np.testing.assert_allclose(arrive([line(joint_offset=offset)], ramp(5)[None])[0], ramp(5) + offset)


def test_lines_do_not_mix():
    variations = ({}, {"latency": 0.02}, {"gripper_lag": 0.15}, {"latency": 0.04, "gripper_lag": 0.05})
    sent = np.stack([ramp(20) * (1 + row) for row in range(4)])
    together = arrive([line(**variation) for variation in variations], sent)
    for row, variation in enumerate(variations):
        np.testing.assert_array_equal(together[row], arrive([line(**variation)], sent[row : row + 1])[0])
