"""What tests of the robot side share."""

import collections

import pytest

from piper_bringup.can import commands as commands
from piper_bringup.can import protocol
from piper_bringup.emulator.arm import Arm
from piper_bringup.emulator.settings import ArmSettings

TICK = 0.005


class Bench:
    """A host that talks to one arm in steps of 5 ms and keeps what it hears."""

    def __init__(self, **settings):
        self.arm = Arm(ArmSettings(**settings))
        self.now = 100.0
        self.heard = collections.defaultdict(list)
        self.run(TICK)

    def send(self, *frames):
        for frame in frames:
            self.arm.receive(frame, self.now)

    def run(self, duration, *frames):
        """Let time pass; `frames` are sent every tick."""
        for _ in range(round(duration / TICK)):
            self.send(*frames)
            self.now += TICK
            self.arm.step(self.now)
            for frame in self.arm.feedback(self.now):
                self.heard[frame.id].append(frame.data)

    def ready(self, **mode):
        """Enabled, in CAN control with MOVE J."""
        self.send(commands.Enable().encode(), commands.Mode(**mode).encode())
        self.run(0.3)
        return self

    @property
    def status(self):
        return protocol.Status.decode(self.heard[protocol.STATUS][-1])

    @property
    def joints(self):
        return [angle for id in protocol.JOINTS for angle in protocol.unpack_pair(self.heard[id][-1])]

    @property
    def gripper(self):
        return protocol.GripperState.decode(self.heard[protocol.GRIPPER][-1])

    @property
    def enabled(self):
        bits = [protocol.MotorSlow.decode(self.heard[id][-1]).bits for id in protocol.MOTOR_SLOW]
        return [bool(bit & protocol.MOTOR_ENABLED) for bit in bits]


@pytest.fixture
def bench_of():
    """Makes a bench from settings of its arm."""
    return Bench
