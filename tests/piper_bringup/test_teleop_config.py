"""Wrong ways of leading the robot are refused with the remedy."""

import os

import can
import pytest

from piper_bringup.teleop.config import SOURCES, TeleopConfig
from vla_policy.errors import VlaError


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"source": "leader", "left_channel": "", "right_channel": ""}, "give left_channel or right_channel"),
        ({"source": "leader", "leader_offset": 5}, "0, 16 and 32"),
        ({"source": "leader", "approach_speed": -1.0}, "give 0 or more"),
        ({"source": "keyboard", "speed": 2.0}, "a share of full speed"),
        ({"source": "keyboard", "max_joint_age": 0.0}, "give more than 0"),
    ],
)
def test_what_cannot_be_is_refused(values, told):
    with pytest.raises(VlaError, match=told):
        TeleopConfig(**values)


def test_an_arm_without_a_channel_has_no_leader():
    assert TeleopConfig(source="leader", left_channel="").leader_channels() == {"right": "can_leader_right"}


def test_every_source_can_be_made(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPER_LOOPBACK_DIR", str(tmp_path / "bus"))
    os.mkfifo(tmp_path / "js0")
    master, slave = os.openpty()
    assert set(SOURCES) == {"leader", "keyboard", "gamepad", "expert"}
    for name, make in SOURCES.items():
        config = TeleopConfig(
            source=name,
            leader_interface="piper_loopback",
            terminal=os.ttyname(slave),
            gamepad=tmp_path / "js0",
        )
        source = make(config, print, print)
        assert source.targets(None, 0.0) is None
        assert 0.01 <= source.interval <= 0.04
        source.close()
    os.close(master)
    os.close(slave)


def test_a_leader_that_cannot_be_heard_is_an_error_of_ours():
    config = TeleopConfig(source="leader", leader_interface="no_such_interface")
    with pytest.raises(VlaError, match="left leader's channel can_leader_left"):
        SOURCES["leader"](config, print, print)
    assert issubclass(can.CanInterfaceNotImplementedError, can.CanError)
