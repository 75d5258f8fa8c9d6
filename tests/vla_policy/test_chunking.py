"""Which row of which chunk is due."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_policy.chunking import ChunkPlayer, without_jump
from vla_policy.errors import VlaError
from vla_policy.types import ActionChunk


def chunk(stamp=0.0, first=0.0, length=4, period=0.1):
    actions = (first + np.arange(length, dtype=np.float32))[:, None].repeat(2, axis=1)
    return ActionChunk(actions=actions, period=period, stamp=stamp)


def played(player, now):
    """The first joint of the command due at `now`."""
    command = player.command(now)
    assert command is not None
    return command[0]


def test_there_is_no_command_before_the_first_chunk():
    player = ChunkPlayer()
    assert player.command(0.0) is None
    assert player.remaining(0.0) == 0.0


def test_rows_follow_the_time_since_the_stamp():
    player = ChunkPlayer()
    player.push(chunk(stamp=10.0))
    rows = [played(player, 10.0 + time) for time in (0.0, 0.09, 0.1, 0.25, 0.3)]
    assert rows == [0, 0, 1, 2, 3]


@given(st.integers(0, 3), st.floats(0, 1e6), st.sampled_from([0.04, 0.1, 1 / 30]))
def test_a_row_is_due_exactly_at_its_start_whatever_the_rounding(row, stamp, period):
    player = ChunkPlayer()
    player.push(chunk(stamp=stamp, period=period))
    assert played(player, stamp + row * period) == row


def test_a_late_chunk_skips_the_rows_that_have_passed():
    player = ChunkPlayer()
    player.push(chunk(stamp=0.0))
    player.push(chunk(stamp=0.2, first=10))
    assert played(player, 0.45) == 12


def test_the_last_row_is_held_when_the_chunk_is_spent():
    player = ChunkPlayer()
    player.push(chunk())
    assert played(player, 99.0) == 3
    assert player.remaining(99.0) == 0.0
    assert player.remaining(0.1) == pytest.approx(0.3)


def test_a_time_before_the_stamp_plays_the_first_row():
    player = ChunkPlayer()
    player.push(chunk(stamp=1.0))
    assert played(player, 0.5) == 0


def test_a_chunk_that_answers_an_older_observation_is_dropped():
    player = ChunkPlayer()
    player.push(chunk(stamp=1.0, first=10))
    player.push(chunk(stamp=0.5))
    assert played(player, 1.0) == 10


def test_the_command_is_a_copy():
    player = ChunkPlayer()
    held = chunk()
    player.push(held)
    for now in (0.0, 99.0):
        command = player.command(now)
        assert command is not None
        command[:] = 7
    assert held.actions.max() == 3


def test_clear_forgets_everything():
    player = ChunkPlayer(ensemble=True)
    player.push(chunk())
    player.clear()
    assert player.command(0.0) is None


def test_ensembling_averages_overlapping_chunks_by_age():
    player = ChunkPlayer(ensemble=True, decay=0.5)
    player.push(chunk(stamp=0.0))
    player.push(chunk(stamp=0.2, first=10))
    old, new = np.exp(-0.5 * 3), np.exp(-0.5 * 1)
    assert played(player, 0.3) == pytest.approx((old * 3 + new * 11) / (old + new))


def test_ensembling_ignores_spent_chunks_and_then_holds_the_newest():
    player = ChunkPlayer(ensemble=True)
    player.push(chunk(stamp=0.0))
    player.push(chunk(stamp=0.2, first=10))
    assert played(player, 0.5) == 13
    assert played(player, 9.0) == 13


def test_equal_chunks_ensemble_to_themselves():
    player = ChunkPlayer(ensemble=True)
    for stamp in (0.0, 0.1, 0.2):
        player.push(chunk(stamp=stamp, first=10 * stamp))
    assert played(player, 0.3) == pytest.approx(3.0)


def test_a_plain_player_plays_the_newest_chunk_alone():
    player = ChunkPlayer()
    player.push(chunk(stamp=0.0))
    player.push(chunk(stamp=0.2, first=10))
    assert played(player, 0.3) == 11


@pytest.mark.parametrize(
    "actions, period",
    [(np.zeros((0, 2)), 0.1), (np.zeros(2), 0.1), (np.zeros((3, 2)), 0.0), (np.full((3, 2), np.nan), 0.1)],
)
def test_chunks_that_cannot_be_played_are_refused(actions, period):
    with pytest.raises(VlaError):
        ChunkPlayer().push(ActionChunk(actions=actions, period=period, stamp=0.0))


def moved(player, now):
    """The first joint of the target at `now`."""
    target = player.target(now)
    assert target is not None
    return target[0]


def test_there_is_no_target_before_the_first_chunk():
    player = ChunkPlayer()
    assert player.target(0.0) is None
    player.push(chunk())
    player.clear()
    assert player.target(0.0) is None


def test_a_row_is_reached_at_the_end_of_its_period_on_an_even_way():
    player = ChunkPlayer()
    player.push(chunk(stamp=10.0, first=1), now=10.0, start=[0.0, 0.0])
    times = (0.0, 0.05, 0.1, 0.125, 0.2, 0.4)
    assert [moved(player, 10.0 + time) for time in times] == pytest.approx([0, 0.5, 1, 1.25, 2, 4])
    assert moved(player, 99.0) == 4


def test_a_late_chunk_leads_on_from_what_was_sent_when_it_came():
    player = ChunkPlayer()
    player.push(chunk(stamp=0.0))
    player.push(chunk(stamp=0.2, first=10), now=0.34, start=[2.5, 2.5])
    assert moved(player, 0.34) == 2.5
    assert moved(player, 0.37) == pytest.approx(0.5 * (2.5 + 11))
    assert [moved(player, time) for time in (0.4, 0.5, 0.6)] == pytest.approx([11, 12, 13])


def test_a_chunk_leads_on_from_the_one_before_unless_told_otherwise():
    player = ChunkPlayer()
    player.push(chunk(stamp=0.0, first=1), now=0.0, start=[0.0, 0.0])
    player.push(chunk(stamp=0.1, first=10), now=0.25)
    assert moved(player, 0.25) == pytest.approx(2.5)
    assert moved(player, 0.3) == pytest.approx(11)


def test_without_a_place_to_start_from_the_first_row_due_is_held():
    player = ChunkPlayer()
    player.push(chunk(stamp=0.0), now=0.15)
    assert [moved(player, time) for time in (0.15, 0.2, 0.3)] == pytest.approx([1, 1, 2])


def test_a_chunk_stamped_in_the_future_starts_at_its_stamp():
    player = ChunkPlayer()
    player.push(chunk(stamp=1.0, first=1), now=0.9, start=[0.0, 0.0])
    assert [moved(player, time) for time in (0.9, 1.0, 1.05)] == pytest.approx([0, 0, 0.5])


def test_a_chunk_that_is_spent_when_it_comes_leads_to_its_last_row():
    player = ChunkPlayer()
    player.push(chunk(stamp=0.0), now=0.4, start=[9.0, 9.0])
    assert moved(player, 0.4) == 3


@given(st.floats(0, 1e6), st.lists(st.floats(0, 0.5), min_size=1, max_size=5), st.sampled_from([0.04, 0.1, 1 / 30]))
def test_targets_never_jump_however_late_chunks_come(stamp, delays, period):
    player, now, sent = ChunkPlayer(), stamp, 0.0
    for number, delay in enumerate(delays):
        now += delay
        late = chunk(stamp=now - min(delay, 3.4 * period), first=number, period=period)
        if player.target(now) is not None:
            sent = moved(player, now)
        player.push(late, now=now, start=[sent, sent])
        assert moved(player, now) == pytest.approx(sent)


def test_targets_of_equal_chunks_ensemble_to_themselves():
    player = ChunkPlayer(ensemble=True)
    player.push(chunk(stamp=0.0, first=1), now=0.0, start=[0.0, 0.0])
    player.push(chunk(stamp=0.1, first=2), now=0.15)
    assert [moved(player, time) for time in (0.15, 0.175, 0.2, 0.33)] == pytest.approx([1.5, 1.75, 2, 3.3])


def test_the_target_is_a_copy():
    player = ChunkPlayer()
    held, start = chunk(), np.zeros(2)
    player.push(held, now=0.0, start=start)
    for now in (0.0, 99.0):
        target = player.target(now)
        assert target is not None
        target[:] = 7
    assert held.actions.max() == 3 and start.max() == 0


def test_a_chunk_within_the_speed_is_not_changed():
    said = chunk(first=1)
    np.testing.assert_array_equal(without_jump(said, [0, 0], 0.0, np.full(2, 10.0)).actions, said.actions)


def test_a_jump_is_drawn_out_until_each_joint_has_caught_up():
    said = ActionChunk(actions=np.array([[1, 5]] * 6, np.float32), period=0.1, stamp=10.0)
    led = without_jump(said, [0.0, 6.0], 10.0, np.array([4.0, 30.0])).actions
    np.testing.assert_allclose(led[:, 0], [0.4, 0.8, 1, 1, 1, 1], atol=1e-6)
    np.testing.assert_array_equal(led[:, 1], said.actions[:, 1])


def test_jumps_the_policy_wants_later_are_its_own():
    said = ActionChunk(actions=np.array([[0.09], [9.0], [0.1]], np.float32), period=0.1, stamp=0.0)
    np.testing.assert_array_equal(without_jump(said, [0.0], 0.0, np.array([1.0])).actions, said.actions)


def test_the_first_row_left_has_only_the_time_that_is_left():
    said = ActionChunk(actions=np.array([[1.0]] * 4, np.float32), period=0.1, stamp=0.0)
    led = without_jump(said, [0.0], 0.175, np.array([4.0])).actions[:, 0]
    np.testing.assert_allclose(led, [1.0, 0.1, 0.5, 0.9], atol=1e-6)  # the first one has passed


@given(st.floats(0, 0.39), st.lists(st.floats(-9, 9), min_size=4, max_size=4), st.floats(-9, 9), st.floats(0.1, 20))
def test_a_played_chunk_never_begins_faster_than_allowed(late, rows, start, speed):
    said = ActionChunk(actions=np.array(rows, np.float32)[:, None], period=0.1, stamp=0.0)
    player = ChunkPlayer()
    player.push(without_jump(said, [start], late, np.array([speed])), now=late, start=[start])
    first = 0.1 * (np.floor(late / 0.1) + 1)
    assert abs(moved(player, first) - start) <= speed * (first - late) + 1e-4
