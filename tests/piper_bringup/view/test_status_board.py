"""What every part of the graph says of itself, for people."""

import pytest

from piper_bringup.view.status_board import SILENT_AFTER, Status, StatusBoard


def status(level="ok", message="ok", time=0.0, **values):
    return Status(level=level, message=message, values=values, time=time)


@pytest.fixture
def board():
    return StatusBoard()


def test_without_a_robot_it_says_so(board):
    assert "NO ROBOT" in board.headline(0.0)
    assert "nobody says anything yet" in board.table(0.0)


def test_the_headline_tells_state_reason_and_success(board):
    board.take("robot", status("error", "stopped: by /robot/stop", state="held"))
    board.take("world", status(solved="True", task="click_bell", seed="3"))
    headline = board.headline(1.0)
    for part in ("HELD", "stopped: by /robot/stop", "SOLVED", "click_bell, seed 3"):
        assert part in headline


def test_a_robot_that_is_well_gives_no_reason(board):
    board.take("robot", status(state="ready"))
    assert "<br>" not in board.headline(0.0)


def test_a_robot_that_fell_silent_is_no_robot(board):
    board.take("robot", status(state="ready"))
    assert "NO ROBOT" in board.headline(SILENT_AFTER + 0.1)
    assert "silent for 5 s; it said: ok" in board.table(5.0)


def test_every_part_has_its_line_and_the_newest_word_counts(board):
    board.take("policy", status("warning", "no image yet"))
    board.take("camera head", status())
    board.take("policy", status("ok", "thinks"))
    table = board.table(0.0)
    assert table.index("camera head") < table.index("policy")
    assert "thinks" in table
    assert "no image yet" not in table


def test_messages_are_text_not_html(board):
    board.take("robot", status("error", "<script>", state="<b>"))
    assert "<script>" not in board.headline(0.0) + board.table(0.0)
    assert "<B>" not in board.headline(0.0)
