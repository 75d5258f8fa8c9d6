"""Which row of which chunk is due."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_policy.chunking import ChunkPlayer
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
