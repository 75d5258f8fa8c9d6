"""Two emulated arms on an emulated bus, and the real piper_sdk between them and the driver."""

import threading
import time
import uuid

import numpy as np
import pytest

from piper_bringup.control.faults import Fault
from piper_bringup.control.loop import ControlLoop
from piper_bringup.control.loop_thread import MonotonicClock
from piper_bringup.control.robot_at_work import RobotAtWork
from piper_bringup.control.stamps import Stamps
from piper_bringup.control.states import State
from piper_bringup.drivers.piper import PiperDriver
from piper_bringup.drivers.piper_arm import ArmSettings
from piper_bringup.drivers.piper_bus import BusConfig
from piper_bringup.emulator import faults as arm_faults
from piper_bringup.emulator.arm import Arm
from piper_bringup.emulator.server import Emulator
from piper_bringup.emulator.settings import ArmSettings as EmulatedSettings
from piper_twin.robot import ARMS, DEG, DUAL_PIPER, HOME
from vla_policy.errors import VlaError
from vla_policy.types import ActionChunk

BOTH_HOME = np.tile(HOME, len(ARMS))
ASIDE = BOTH_HOME + 0.3 * (np.arange(14) == 0)


def wait_for(condition, timeout=60.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Cell:
    """Emulated arms, the driver, and the robot at work with it."""

    def __init__(self, folder, monkeypatch, **settings):
        monkeypatch.setenv("PIPER_LOOPBACK_DIR", str(folder / "bus"))
        names = [f"{arm}{uuid.uuid4().hex[:6]}" for arm in ARMS]  # piper_sdk keeps one object for every name
        self.left, self.right = names
        self.emulator = Emulator({name: Arm(EmulatedSettings(**settings)) for name in names})
        bus = BusConfig(left_channel=self.left, right_channel=self.right, bustype="piper_loopback")
        self.driver = PiperDriver(bus, ArmSettings(), speed=100)
        self.robot, self.ticks = None, []

    def begin(self):
        """Let the control loop run."""
        stamps = Stamps(time.monotonic, time.monotonic)
        self.loop = ControlLoop(self.driver, DUAL_PIPER)
        self.robot = RobotAtWork(self.loop, self.driver, MonotonicClock(), stamps, self.ticks.append)
        return self

    def ready(self):
        self.begin()
        wait_for(lambda: self.driver.checks() == [])
        answer = self.robot.enable().result(10.0)
        assert answer.success, answer.message
        return self

    def send(self, target=ASIDE, rows=50):
        actions = np.tile(target, (rows, 1)).astype(np.float32)
        self.robot.submit(ActionChunk(actions=actions, period=0.04, stamp=time.monotonic()))

    def moving(self):
        self.ready().send()
        wait_for(lambda: self.ticks[-1].measured[0] > 0.05)
        return self

    @property
    def state(self):
        return self.ticks[-1].state

    @property
    def reason(self):
        return self.ticks[-1].reason

    def arm(self, channel):
        return self.emulator.state()[channel]

    def counts(self, channel):
        return self.arm(channel)["counts"]

    def close(self):
        if self.robot is None:
            self.driver.close()
        else:
            self.robot.close()
        self.emulator.close()


@pytest.fixture
def make(tmp_path, monkeypatch):
    cells = []

    def made(**settings):
        cells.append(Cell(tmp_path, monkeypatch, **settings))
        return cells[-1]

    yield made
    for cell in cells:
        cell.close()


@pytest.fixture
def cell(make):
    return make()


def test_joints_are_read_and_settings_asked_for_before_anything_is_commanded(cell):
    wait_for(lambda: cell.driver.checks() == [])
    np.testing.assert_allclose(cell.driver.read(), BOTH_HOME, atol=1e-4)
    assert not cell.driver.enabled()
    assert {"joint_disabled", "not_can_controlled"} <= {fault.name for fault in cell.driver.faults(time.monotonic())}
    report = cell.driver.report(time.monotonic())
    assert report["left_firmware"] == report["right_firmware"] == "S-V1.8-5"
    assert cell.counts(cell.left)["targets"] == cell.counts(cell.left)["gripper_targets"] == 0


def test_an_enabled_robot_goes_where_it_is_sent_and_breaks_none_of_the_arms_limits(cell):
    cell.ready()
    target = ASIDE.copy()
    target[[6, 13]] = 0.03
    cell.send(target)
    wait_for(lambda: np.abs(cell.driver.read() - target).max() < 2e-3)
    for channel in (cell.left, cell.right):
        counts = cell.counts(channel)
        assert counts["violations"] == counts["resets"] == counts["disables"] == counts["falls"] == 0
        assert cell.arm(channel)["enabled"] == [True] * 7


def test_crash_levels_are_set_and_read_back(cell):
    cell.ready()
    wait_for(lambda: cell.driver.report(time.monotonic())["left_crash_levels"] == (5,) * 6)


def test_enabling_moves_neither_joints_nor_grippers(make):
    cell = make()
    posture = [0.1, 1.0, -0.8, 0.2, 0.5, -0.3, 0.031]
    cell.emulator.drag(posture, cell.left)
    wait_for(lambda: np.abs(cell.driver.read()[:7] - posture).max() < 1e-4)
    cell.ready()
    time.sleep(0.2)
    np.testing.assert_allclose(cell.driver.read()[:7], posture, atol=1e-3)


def test_a_stop_holds_the_arms_and_a_release_moves_on(cell):
    cell.moving()
    cell.robot.stop("the operator")
    wait_for(lambda: cell.loop.is_at_rest)
    held = cell.driver.read()
    time.sleep(0.3)
    np.testing.assert_allclose(cell.driver.read(), held, atol=2e-3)
    assert cell.robot.release().success
    cell.send(BOTH_HOME)
    wait_for(lambda: abs(cell.driver.read()[0]) < 2e-3)


@pytest.mark.parametrize(
    ("fault", "names", "words"),
    [
        (arm_faults.Silent(groups=("joints_12",)), {"feedback_lost"}, "joints 1-2"),
        (arm_faults.Silent(groups=("motor_slow",)), {"feedback_lost", "feedback_late"}, "health"),
        (arm_faults.BusOff(), {"bus_silent", "send_failed"}, "left arm"),
        (arm_faults.StatusError(code=7), {"collision"}, "left arm"),
        (arm_faults.StatusError(code=0xE), {"overheated"}, "controller"),
        (arm_faults.MotorError(motor=3, bits=1 << 3), {"overheated"}, "joint 3"),
        (arm_faults.MotorError(motor=2, bits=1 << 7), {"stall"}, "joint 2"),
    ],
)
def test_a_fault_holds_both_arms_is_named_and_forgotten_after_release(cell, fault, names, words):
    cell.moving()
    cell.emulator.inject(fault, cell.left)
    wait_for(lambda: cell.state is State.HELD)
    assert any(cell.reason.startswith(name) for name in names), cell.reason
    assert words in cell.reason
    cell.emulator.clear(channel=cell.left)
    wait_for(lambda: not cell.ticks[-1].faults)
    assert cell.robot.release().success
    assert cell.state is State.READY
    cell.send(BOTH_HOME)
    wait_for(lambda: abs(cell.driver.read()[0]) < 2e-3)
    for channel in (cell.left, cell.right):
        counts = cell.counts(channel)
        assert counts["violations"] == counts["resets"] == counts["disables"] == 0


def test_a_pressed_stop_is_told_and_the_arm_is_enabled_again_after_its_power_was_off(cell):
    cell.moving()
    cell.emulator.inject(arm_faults.StopPressed(), cell.left)
    wait_for(lambda: cell.state is State.HELD)
    assert cell.reason.startswith("emergency_stop")
    assert not cell.robot.release().success
    cell.emulator.clear(channel=cell.left)
    wait_for(lambda: {fault.kind.ends_with_enabling for fault in cell.ticks[-1].faults} == {True})
    assert cell.robot.release().success
    assert cell.state is State.DISABLED
    wait_for(lambda: cell.driver.checks() == [])
    assert cell.robot.enable().result(10.0).success
    assert cell.counts(cell.left)["start_jumps"] == 0


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (arm_faults.WrongFirmware(software="S-V1.4-9"), "older than S-V1.5-2"),
        (arm_faults.WrongFirmware(software=None), "firmware"),
        (arm_faults.CorruptedLimits(motor=2, lower=-0.1 * DEG, upper=-0.1 * DEG), "joint 2 is limited to -0.1 to -0.1"),
        (arm_faults.CorruptedLimits(motor=5, lower=-70 * DEG, upper=70 * DEG, max_velocity=1.0), "1.00 rad/s"),
        (arm_faults.StrokeUnset(), "--stroke"),
        (arm_faults.Leader(), "leader"),
        (arm_faults.Silent(groups=("joints",)), "no joint positions"),
    ],
)
def test_what_is_wrong_with_an_arm_forbids_enabling_and_says_what_to_do(tmp_path, monkeypatch, fault, word):
    monkeypatch.setenv("PIPER_LOOPBACK_DIR", str(tmp_path / "bus"))
    left, right = [f"{arm}{uuid.uuid4().hex[:6]}" for arm in ARMS]
    emulator = Emulator({left: Arm(), right: Arm()})
    emulator.inject(fault, left)
    driver = PiperDriver(
        BusConfig(left_channel=left, right_channel=right, bustype="piper_loopback"), ArmSettings(), speed=100
    )
    try:
        wait_for(lambda: not any("right" in problem for problem in driver.checks()))
        wait_for(
            lambda: any(word in problem for problem in [*driver.checks(), *map(str, driver.faults(time.monotonic()))])
        )
        assert emulator.state()[left]["counts"]["enables"] == 0
    finally:
        driver.close()
        emulator.close()


def test_a_firmware_that_was_updated_meanwhile_is_heard_of(cell, monkeypatch):
    monkeypatch.setattr("piper_bringup.drivers.piper_arm.QUERY_PERIOD", 0.05)
    cell.emulator.inject(arm_faults.WrongFirmware(software="S-V1.4-9"), cell.left)
    wait_for(lambda: any("S-V1.4-9 is older" in problem for problem in cell.driver.checks()))
    cell.emulator.clear(channel=cell.left)
    wait_for(lambda: cell.driver.checks() == [])


def test_an_arm_that_refuses_torque_is_given_up(make):
    cell = make().begin()
    cell.emulator.inject(arm_faults.EnableRefused(), cell.left)
    cell.loop.config = type(cell.loop.config)(enable_timeout=0.5)
    wait_for(lambda: cell.driver.checks() == [])
    answer = cell.robot.enable().result(10.0)
    assert not answer.success
    assert "0.5 s" in answer.message
    enables = cell.counts(cell.left)["enables"]
    time.sleep(0.3)
    assert cell.counts(cell.left)["enables"] == enables, "asked no more"


def test_old_firmware_counts_from_other_zeros(make):
    cell = make(software="S-V1.6-2")
    wait_for(lambda: cell.driver.report(time.monotonic())["left_firmware"] == "S-V1.6-2")
    shift = np.array([0, 2, -2, 0, 0, 0]) * DEG
    wait_for(lambda: np.abs(cell.driver.read()[:6] - (HOME[:6] - shift)).max() < 1e-4)
    cell.ready()
    cell.send(BOTH_HOME)
    wait_for(lambda: np.abs(np.array(cell.arm(cell.left)["joints"][:6]) - (HOME[:6] + shift)).max() < 2e-3)


def test_the_stop_works_while_a_sender_hangs(cell):
    cell.moving()
    arm = cell.driver._arms["left"]
    hangs, let_go = threading.Event(), threading.Event()

    def hang(*_):
        hangs.set()
        let_go.wait(20.0)

    arm._bus.sdk.MotionCtrl_2, before = hang, arm._bus.sdk.MotionCtrl_2
    assert hangs.wait(5.0)
    targets = cell.counts(cell.left)["targets"]
    cell.driver.stop()
    pose = cell.driver.read()
    wait_for(lambda: cell.counts(cell.left)["targets"] > targets + 20)
    np.testing.assert_allclose(cell.arm(cell.left)["targets"][:6], pose[:6], atol=0.05)
    wait_for(lambda: cell.state is State.HELD)
    assert "sender_stalled" in cell.reason
    arm._bus.sdk.MotionCtrl_2 = before
    let_go.set()


def test_a_loop_that_hangs_leaves_the_arms_holding(cell):
    cell.ready()
    wait_for(lambda: cell.counts(cell.left)["targets"] > 10)
    cell.robot._watchdog.stop()
    cell.robot._thread.stop()
    before = cell.counts(cell.left)["targets"]
    time.sleep(0.5)
    assert cell.counts(cell.left)["targets"] - before > 50, "the newest command is sent again and again"


def test_a_new_driver_can_enable_arms_that_have_torque_however_late(cell, monkeypatch):
    cell.ready()
    cell.robot.close()
    cell.robot = None
    monkeypatch.setattr("piper_bringup.drivers.piper_arm.QUERY_PERIOD", 0.05)
    monkeypatch.setattr("piper_bringup.drivers.piper_checks.ANSWERED", 0.5)
    bus = BusConfig(left_channel=cell.left, right_channel=cell.right, bustype="piper_loopback")
    cell.driver = PiperDriver(bus, ArmSettings(crash_level=3), speed=100)
    wait_for(cell.driver.enabled)
    time.sleep(1.0)
    assert cell.driver.checks() == []
    cell.begin()
    wait_for(lambda: cell.ticks)
    assert cell.robot.enable().result(10.0).success
    wait_for(lambda: cell.driver.report(time.monotonic())["left_crash_levels"] == (3,) * 6)


def test_after_the_end_the_arms_keep_torque_and_a_new_driver_finds_them_so(cell):
    cell.moving()
    cell.robot.close()
    cell.robot = None
    assert cell.arm(cell.left)["enabled"] == [True] * 7
    bus = BusConfig(left_channel=cell.left, right_channel=cell.right, bustype="piper_loopback")
    cell.driver = PiperDriver(bus, ArmSettings(), speed=100)
    wait_for(cell.driver.enabled)
    before = cell.driver.read()
    cell.ready()
    time.sleep(0.2)
    np.testing.assert_allclose(cell.driver.read(), before, atol=2e-3)
    assert cell.counts(cell.left)["violations"] == cell.counts(cell.left)["disables"] == 0


def test_a_channel_that_does_not_exist_is_named():
    with pytest.raises(VlaError, match="can_nowhere"):
        PiperDriver(BusConfig(left_channel="can_nowhere"), ArmSettings(), speed=100)


def test_wrong_settings_are_refused():
    with pytest.raises(VlaError, match="bus of its own"):
        BusConfig(left_channel="can0", right_channel="can0")
    with pytest.raises(VlaError, match="gripper_effort"):
        ArmSettings(gripper_effort=9.0)
    with pytest.raises(VlaError, match="crash_level"):
        ArmSettings(crash_level=9)
    assert Fault("bus_silent", "left arm").recoverable
