"""Setting up an emulated arm."""

import time

import pytest

from piper_bringup.can.commands import FOLLOWER
from piper_bringup.emulator import faults as arm_faults
from piper_bringup.emulator.arm import Arm
from piper_bringup.emulator.server import Emulator
from piper_bringup.emulator.settings import ArmSettings
from piper_bringup.set_up_arm import SetUpConfig, set_up
from vla_policy.errors import VlaError


def wait_for(condition):
    deadline = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def arm(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPER_LOOPBACK_DIR", str(tmp_path))
    made = Arm(ArmSettings(stroke=0.0, is_leader=True))
    with Emulator({"can_new": made}):
        yield made


def test_stroke_role_and_limits_are_set(arm):
    arm.registers.joints[1].upper = -0.1
    set_up(SetUpConfig(channel="can_new", bustype="piper_loopback", stroke=0.07, role="follower", factory_limits=True))
    wait_for(lambda: arm.registers.stroke == 0.07 and arm.registers.joints[1].upper > 3.0)
    assert arm.next_role.role == FOLLOWER
    assert arm.is_leader, "until it is switched off and on"


def test_a_channel_on_which_nothing_can_be_sent_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPER_LOOPBACK_DIR", str(tmp_path))
    with Emulator({"can_off": Arm()}) as emulator:
        emulator.inject(arm_faults.BusOff())
        time.sleep(0.05)
        with pytest.raises(VlaError, match="can_off"):
            set_up(SetUpConfig(channel="can_off", bustype="piper_loopback", stroke=0.07))


@pytest.mark.parametrize("wish", [{}, {"stroke": 0.05}])
def test_wishes_that_make_no_sense_are_refused(wish):
    with pytest.raises(VlaError):
        SetUpConfig(channel="can0", **wish)
