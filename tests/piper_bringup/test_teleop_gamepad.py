"""Sticks move a tool while the dead-man button is held."""

import os

import pytest

from piper_bringup.teleop.gamepad import (
    AXES,
    BUTTONS,
    DEAD_MAN,
    DEAD_ZONE,
    EVENT,
    FULL,
    HOMING,
    IS_AXIS,
    IS_BUTTON,
    IS_INITIAL,
    Gamepad,
    motion_of,
    share_of,
)
from piper_bringup.teleop.jog import FASTER, NEXT_ARM, SLOWER, STILL, Motion
from piper_bringup.teleop.source import SERVICES
from vla_policy import topics
from vla_policy.errors import VlaError


class Pad:
    """The kernel's end of a joystick device."""

    def __init__(self, path):
        os.mkfifo(path)
        self.path, self.told = path, []
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.file = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        self.gamepad = Gamepad(path, self.told.append)
        os.close(reader)

    def send(self, *events):
        os.write(self.file, b"".join(EVENT.pack(0, value, kind, number) for kind, number, value in events))

    def unplug(self):
        os.close(self.file)


@pytest.fixture
def pad(tmp_path):
    made = Pad(tmp_path / "js0")
    yield made
    made.gamepad.close()


def test_a_stick_counts_from_the_edge_of_its_dead_zone():
    assert share_of(0) == share_of(int(DEAD_ZONE * FULL)) == share_of(-int(DEAD_ZONE * FULL)) == 0.0
    assert (share_of(FULL), share_of(-FULL), share_of(-FULL - 1)) == (1.0, -1.0, -1.0)
    assert 0.0 < share_of(int((DEAD_ZONE + 0.02) * FULL)) < 0.05


def test_nothing_moves_unless_the_dead_man_button_is_held():
    assert motion_of({1: -FULL}, frozenset()) == STILL
    assert motion_of({1: -FULL}, {DEAD_MAN}) == Motion(x=1.0)
    assert motion_of({1: -FULL}, {DEAD_MAN, HOMING}) == Motion(home=1.0)


def test_every_motion_and_request_can_be_made_and_no_button_does_two_things():
    assert {field for field, _ in AXES.values()} == {"x", "y", "z", "roll", "tilt", "gripper"}
    assert {*BUTTONS.values()} == {NEXT_ARM, FASTER, SLOWER, *SERVICES} - {topics.EPISODE_DISCARD}
    assert not {DEAD_MAN, HOMING} & BUTTONS.keys()


def test_events_are_read_without_waiting(pad):
    assert pad.gamepad.poll(0.0) == (STILL, [])
    pad.send((IS_BUTTON, DEAD_MAN, 1), (IS_AXIS, 4, -FULL), (IS_BUTTON, 0, 1), (IS_BUTTON, 0, 0), (IS_BUTTON, 1, 1))
    assert pad.gamepad.poll(0.0) == (Motion(z=1.0), [NEXT_ARM, topics.STOP])
    assert pad.gamepad.poll(60.0) == (Motion(z=1.0), []), "a stick held still sends nothing"
    pad.send((IS_BUTTON, DEAD_MAN, 0))
    assert pad.gamepad.poll(60.1) == (STILL, [])


def test_what_was_held_before_it_was_opened_counts_only_once_it_is_pressed_anew(pad):
    pad.send((IS_AXIS | IS_INITIAL, 1, -FULL), (IS_BUTTON | IS_INITIAL, DEAD_MAN, 1), (IS_BUTTON | IS_INITIAL, 1, 1))
    assert pad.gamepad.poll(0.0) == (STILL, [])
    pad.send((IS_BUTTON, DEAD_MAN, 0), (IS_BUTTON, DEAD_MAN, 1))
    assert pad.gamepad.poll(0.1) == (Motion(x=1.0), [])


def test_unplugging_stops_and_it_can_be_plugged_in_again(pad):
    pad.send((IS_BUTTON, DEAD_MAN, 1), (IS_AXIS, 1, -FULL))
    assert pad.gamepad.poll(0.0)[0] == Motion(x=1.0)
    pad.unplug()
    pad.path.rename(pad.path.with_name("away"))
    assert pad.gamepad.poll(0.1) == (STILL, [])
    assert pad.gamepad.poll(5.0) == (STILL, [])
    assert pad.told == ["the gamepad is gone: the arms hold; plug it in again"]
    os.mkfifo(pad.path)
    reader = os.open(pad.path, os.O_RDONLY | os.O_NONBLOCK)
    pad.file = os.open(pad.path, os.O_WRONLY | os.O_NONBLOCK)
    assert pad.gamepad.poll(5.1) == (STILL, []), "looked for once a second"
    assert pad.gamepad.poll(6.1) == (STILL, [])
    assert "is back" in pad.told[-1]
    pad.send((IS_BUTTON, DEAD_MAN, 1), (IS_AXIS, 0, FULL))
    assert pad.gamepad.poll(6.2) == (Motion(y=-1.0), [])
    os.close(reader)
    pad.unplug()


def test_no_gamepad_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(VlaError, match=r"no gamepad at .*; plug it in"):
        Gamepad(tmp_path / "js0", print)
