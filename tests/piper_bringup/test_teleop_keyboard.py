"""Letters from a terminal move a tool while they keep coming."""

import os
import termios

import pytest

from piper_bringup.teleop.jog import FASTER, NEXT_ARM, STILL, Motion
from piper_bringup.teleop.keyboard import COMMANDS, HELP_TEXT, HOLD, MOTIONS, Keyboard, keys_in, motion_of
from piper_bringup.teleop.source import SERVICES
from vla_policy import topics
from vla_policy.errors import VlaError


@pytest.fixture
def terminal():
    """The keyboard's end of a terminal, and the path of the other."""
    master, slave = os.openpty()
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


def test_capitals_arrows_and_unknown_sequences():
    assert keys_in(b"wW\t") == ["w", "w", "\t"]
    assert keys_in(b"\x1b[A\x1bOBx\x1b[5~\x1b[6~") == ["up", "down", "x", "page up", "page down"]
    assert keys_in(b"\x1b[15~w\x1b[1;5Aw\x1bww\xff") == ["w", "w", "w", "�"]
    assert keys_in(b"\x1b") == keys_in(b"\x1b[") == keys_in(b"") == []


def test_every_key_is_explained_and_means_one_thing():
    assert not MOTIONS.keys() & COMMANDS.keys()
    letters = {key for key in MOTIONS if len(key) == 1} | {key for key in COMMANDS if key.strip()}
    assert all(key in HELP_TEXT for key in letters)
    assert {word for word in COMMANDS.values() if word.startswith("/")} == set(SERVICES)


def test_a_key_moves_while_it_repeats_and_no_longer():
    assert motion_of({"w": 1.0}, 1.0) == motion_of({"w": 1.0}, 1.0 + HOLD - 0.01) == Motion(x=1.0)
    assert motion_of({"w": 1.0}, 1.0 + HOLD + 0.01) == STILL
    assert motion_of({"w": 9.0}, 1.0) == STILL, "a clock that fell back"


def test_two_keys_move_along_two_axes_and_of_two_for_one_axis_the_newer_counts():
    assert motion_of({"w": 1.0, "r": 1.1}, 1.2) == Motion(x=1.0, z=1.0)
    assert motion_of({"s": 1.1, "w": 1.0}, 1.2) == motion_of({"w": 1.0, "s": 1.1}, 1.2) == Motion(x=-1.0)


def test_keys_are_read_without_waiting_and_without_showing_them(terminal):
    master, path = terminal
    keyboard = Keyboard(path)
    assert keyboard.poll(0.0) == (STILL, [])
    os.write(master, b"w\t+?")
    motion, commands = keyboard.poll(0.1)
    assert (motion, commands[:2]) == (Motion(x=1.0), [NEXT_ARM, FASTER])
    os.set_blocking(master, False)
    with pytest.raises(BlockingIOError):
        os.read(master, 10)
    keyboard.close()


def test_the_stop_key_ends_the_motion_at_once(terminal):
    master, path = terminal
    keyboard = Keyboard(path)
    os.write(master, b"w")
    assert keyboard.poll(0.0)[0] == Motion(x=1.0)
    os.write(master, b" ")
    assert keyboard.poll(0.05) == (STILL, [topics.STOP])
    assert keyboard.poll(0.1) == (STILL, [])
    keyboard.close()


def test_the_terminal_is_given_back_as_it_was(terminal):
    master, path = terminal
    before = termios.tcgetattr(master)
    keyboard = Keyboard(path)
    assert termios.tcgetattr(master) != before
    keyboard.close()
    assert termios.tcgetattr(master) == before


def test_a_terminal_that_is_closed_moves_nothing():
    master, slave = os.openpty()
    keyboard = Keyboard(os.ttyname(slave))
    os.close(slave)
    os.close(master)
    assert keyboard.poll(0.0) == (STILL, [])
    keyboard.close()


def test_what_is_no_terminal_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(VlaError, match="start the keyboard in a terminal of its own"):
        Keyboard(tmp_path / "tty")
    (tmp_path / "file").touch()
    with pytest.raises(VlaError, match="is no terminal"):
        Keyboard(tmp_path / "file")


def test_a_terminal_of_another_program_is_left_alone(terminal, monkeypatch):
    monkeypatch.setattr(os, "tcgetpgrp", lambda file: os.getpgrp() + 1)
    with pytest.raises(VlaError, match="belongs to another program"):
        Keyboard(terminal[1])
