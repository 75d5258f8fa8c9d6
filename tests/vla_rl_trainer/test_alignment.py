"""One row a control period out of streams that have rates, phases and gaps of their own."""

import numpy as np
import pytest

from vla_policy.errors import VlaError
from vla_rl_trainer.alignment import align, nearest, num_idle_rows

PERIOD = 0.04


def aligned(streams, **changes):
    arguments = dict(reference="head", actions="commands", max_age=0.2, owner="bag x") | changes
    return align({name: np.asarray(times, float) for name, times in streams.items()}, PERIOD, **arguments)


def steady(rate, seconds, first=0.0):
    return first + np.arange(round(seconds * rate) + 1) / rate


def streams(**changes):
    return {
        "states": steady(200, 2),
        "commands": steady(200, 2),
        "head": steady(30, 2),
        "wrist": steady(30, 2),
    } | changes


def test_the_nearest_message_counts_before_or_after():
    times = np.array([0.0, 0.1, 0.3])
    np.testing.assert_array_equal(nearest(times, np.array([-1.0, 0.04, 0.05, 0.06, 0.21, 9.0])), [0, 0, 0, 1, 2, 2])
    np.testing.assert_array_equal(nearest(times[:1], np.array([-1.0, 1.0])), [0, 0])


def test_rows_are_a_control_period_apart_and_actions_one_period_later():
    found = aligned(streams())
    np.testing.assert_allclose(np.diff(found.times_T), PERIOD)
    np.testing.assert_array_equal(found.rows["states"], np.arange(50) * 8)
    np.testing.assert_array_equal(found.rows["commands"], np.arange(1, 51) * 8)
    assert max(report.worst_age for report in found.reports.values()) <= 1 / 60 + 1e-9


def test_a_camera_at_the_rows_own_rate_is_met_exactly_whatever_came_first():
    found = aligned(streams(head=steady(25, 2, first=0.013), wrist=steady(25, 2, first=0.014)))
    assert found.times_T[0] == pytest.approx(0.053), "the first frame of the head after the wrist has begun"
    np.testing.assert_array_equal(found.rows["head"], np.arange(1, len(found.times_T) + 1))
    assert found.reports["head"].worst_age < 1e-9
    assert found.reports["wrist"].worst_age == pytest.approx(0.001)


def test_rows_begin_when_everything_is_there_and_end_with_the_last_action():
    found = aligned(streams(states=steady(200, 1, first=0.5), commands=steady(200, 1.2)))
    assert found.times_T[0] == pytest.approx(0.5, abs=1 / 30)
    assert found.times_T[-1] == pytest.approx(1.2 - PERIOD, abs=PERIOD)


def test_dropped_frames_are_counted_and_the_rows_they_leave_far():
    head = np.delete(steady(25, 2), [10, 11, 30])
    report = aligned(streams(head=head, wrist=steady(25, 2))).reports["head"]
    assert (report.num_messages, report.num_gaps, report.num_missing) == (48, 2, 3)
    assert report.period == pytest.approx(0.04)
    assert report.longest_gap == pytest.approx(0.12)
    assert report.worst_age == pytest.approx(0.04)
    assert report.num_far == 3
    assert report.far_share == pytest.approx(3 / 50)


def test_a_stream_without_gaps_reports_none():
    report = aligned(streams()).reports["wrist"]
    assert (report.num_gaps, report.num_missing, report.longest_gap, report.num_far) == (0, 0, 0.0, 0)


def test_a_long_interruption_is_refused_and_named():
    head = steady(25, 2)
    with pytest.raises(VlaError, match=r"bag x lacks head for 0\.28 s around 1\.2 s of its episode.*--max-age 0\.3"):
        aligned(streams(head=np.delete(head, range(24, 37))))
    aligned(streams(head=np.delete(head, range(24, 37))), max_age=0.3)


def test_what_is_empty_or_never_there_together_is_refused():
    with pytest.raises(VlaError, match="bag x holds no message of head, wrist; record it again"):
        aligned(streams(head=[], wrist=[]))
    with pytest.raises(VlaError, match=r"no moment at which all was there \(.*head 100.00 .. 102.00 s.*the same"):
        aligned(streams(head=steady(25, 2, first=100.0)))


def test_rows_before_the_first_motion_are_idle_but_for_the_last_of_them():
    actions = np.zeros((10, 3))
    actions[4:, 1] = np.linspace(0.01, 0.1, 6)
    actions[:, 2] += np.random.default_rng(0).normal(scale=1e-4, size=10)
    assert num_idle_rows(actions) == 3
    assert num_idle_rows(actions[4:]) == 0
    assert num_idle_rows(np.zeros((5, 3))) == 0
