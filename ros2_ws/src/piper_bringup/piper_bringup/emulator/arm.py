"""One emulated Piper: what it does with the frames it hears, how it moves, what it sends. Time is an argument.

What is known of the real arm is in `can.protocol`, `registers` and `feedback`. What no source settles is assumed here:
a joint has its torque `enable_delay` after it was asked to; targets beyond a limit are clamped, and set status 4 and
the joint's bit; an arm that is not in CAN control with MOVE J ignores targets; a stopped arm sinks slowly and keeps
its torque; an arm that is reset or disabled falls; the first enabling after a reset is ignored (users report that it
takes two); a new role counts from the next power-on (as AgileX's demo says).
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Iterable, Sequence

from piper_bringup.can import commands as commands
from piper_bringup.can import protocol
from piper_bringup.can.firmware import FIRMWARE
from piper_bringup.can.protocol import Frame
from piper_bringup.emulator.counts import Counts, TargetWatch
from piper_bringup.emulator.faults import Fault
from piper_bringup.emulator.feedback import Reading, Schedule, flange_frames, follower_frames, leader_frames
from piper_bringup.emulator.plant import ExactPlant, Planner, Plant
from piper_bringup.emulator.registers import Registers
from piper_bringup.emulator.settings import ArmSettings
from piper_bringup.emulator.torque import GRIPPER_JOINT, REST, Torque
from piper_twin.robot import DOF, HOME, MAX_GRIPPER_ACCELERATION, MAX_GRIPPER_VELOCITY

SINKING, FALLING = (0.3, 2.0), (3.0, 20.0)
"""Speed [rad/s] and acceleration [rad/s^2] of a stopped arm, and of one without torque."""
REACHED = 0.002
"""A joint so near its target [rad] has arrived."""
ROUNDING = 2e-5
"""[rad]: the unit that targets are sent in."""


class Arm:
    """One arm on its bus. For one thread."""

    def __init__(
        self, settings: ArmSettings | None = None, plant: Plant | None = None, joints: Sequence[float] = tuple(HOME)
    ) -> None:
        """Switched on, without torque, supported until it is enabled.

        Args:
            settings: The arm.
            plant: Its mechanics; None: joints that do as they are told, beginning at `joints`.
            joints: Six joint positions [rad] and the opening [m].
        """
        self.settings = settings or ArmSettings()
        self.plant = plant or ExactPlant([float(joint) for joint in joints])
        self.registers = Registers(self.settings.software, self.settings.stroke)
        self.counts = Counts()
        self.faults: dict[str, Fault] = {}
        """What is wrong with it, by name."""
        self.next_role = commands.Role(commands.LEADER if self.settings.is_leader else commands.FOLLOWER)
        """What it will be when it is switched on again."""
        self._planner = Planner(self.plant.joints())
        self._watch = TargetWatch(self.counts)
        self._schedule = Schedule()
        self._last_step: float | None = None
        self._handlers: dict[int, Callable[[bytes, float], None]] = {
            protocol.MOTION_CONTROL: self._on_motion_control,
            protocol.MODE: self._on_mode,
            protocol.GRIPPER_TARGET: self._on_gripper,
            commands.ENABLE: self._on_enable,
            commands.ROLE: self._on_role,
            commands.JOINT_SETTINGS: self._on_joint_settings,
        }
        self.power_cycle()

    def power_cycle(self) -> None:
        """Somebody supports the arm and switches it off and on."""
        self.role = self.next_role
        self.mode = commands.Mode(protocol.CTRL_STANDBY, protocol.MOVE_P, 0)
        self.teach = 0
        self.is_stopped = False
        """By an emergency stop."""
        self.torque = Torque()
        self._answers: collections.deque[tuple[float, Frame]] = collections.deque()
        self.place()

    def place(self) -> None:
        """The joints were moved by other means than frames: stand where they are, and stay there."""
        for joint, position in enumerate(self.plant.joints()):
            self._planner.place(joint, float(position))
        self.plant.set_targets(self._planner.position)
        self._reported, self._reported_at = list(self._planner.position), -math.inf
        self._stand()

    def _stand(self) -> None:
        self.targets = list(self._planner.position)
        """Where it is going: six joints [rad] and the opening [m]."""
        self._asked = self.targets[:GRIPPER_JOINT]
        self._limit_bits = 0
        self._watch.begin()

    def drag(self, joints: Sequence[float]) -> None:
        """A hand moves a leader, an arm that is taught or one without torque to `joints`; others resist."""
        if self.is_leader or self.teach == 1 or not any(self.torque.enabled):
            self.targets = [float(joint) for joint in joints]

    def inject(self, fault: Fault, now: float) -> None:
        """Let something go wrong; a fault of the same name is replaced."""
        self.clear(fault.name, now)
        self.faults[fault.name] = fault
        fault.begin(self, now)
        if not self.is_following:
            self._stand()

    def clear(self, name: str, now: float) -> None:
        """End a fault, if there is one of this name."""
        if fault := self.faults.pop(name, None):
            fault.end(self, now)

    @property
    def is_leader(self) -> bool:
        """Whether it sends targets instead of obeying them."""
        return self.role.role == commands.LEADER

    @property
    def is_following(self) -> bool:
        """Whether it goes where joint targets tell it, as far as it has torque."""
        return (
            (self.mode.ctrl, self.mode.move) == (protocol.CTRL_CAN, protocol.MOVE_J)
            and not (self.is_stopped or self.is_leader or self.teach)
            and not any(fault.stops_motion for fault in self.faults.values())
        )

    def receive(self, frame: Frame, now: float) -> None:
        """Hear a frame that was sent at `now` [s]."""
        if not all([fault.hears(frame) for fault in self.faults.values()]):
            return
        self.counts.frames += 1
        id = frame.id - self.role.control_offset if frame.id < commands.ROLE else frame.id
        if id in protocol.JOINT_TARGETS:
            self._on_joints(protocol.JOINT_TARGETS.index(id), frame.data, now)
        elif id in self._handlers:
            self._handlers[id](frame.data, now)
        answers = self.registers.handle(frame)
        if frame.id in self.settings.acknowledged:
            is_zeroed = frame.id == commands.JOINT_SETTINGS and commands.JointSettings.decode(frame.data).sets_zero
            answers.append(Frame(commands.ACKNOWLEDGEMENT, bytes((frame.id & 0xFF, is_zeroed, 0, 0, 0, 0, 0, 0))))
        delay = self.settings.firmware_delay if frame.id == FIRMWARE else self.settings.reply_delay
        self._answers.extend((now + delay, answer) for answer in answers)

    def _on_motion_control(self, data: bytes, now: float) -> None:
        control = commands.MotionControl.decode(data)
        if control.stop == protocol.STOP:
            self.counts.stops += 1
            self.is_stopped = True
        elif control.stop == protocol.RESET:
            self.counts.resets += 1
            self._lose_torque(range(DOF))
            self.mode = commands.Mode(protocol.CTRL_STANDBY, protocol.MOVE_P, 0)
            self.is_stopped, self.teach, self.torque.ignored_asks = False, 0, 1
            self._stand()
        elif control.teach:
            self.teach = 0 if control.teach == 2 else control.teach
            self._stand()

    def _on_mode(self, data: bytes, now: float) -> None:
        was_following = self.is_following
        self.mode = commands.Mode.decode(data)
        if was_following != self.is_following:
            self._stand()

    def _on_enable(self, data: bytes, now: float) -> None:
        request = commands.Enable.decode(data)
        if request is None:
            return
        joints = [motor - 1 for motor in request.motors] + [GRIPPER_JOINT] * request.has_gripper
        if not request.is_on:
            self.counts.disables += 1
            self._lose_torque(joints)
            return
        self.counts.enables += 1
        if not (self.is_stopped or self.is_leader):
            self.torque.ask(joints, now + self.settings.enable_delay)

    def _lose_torque(self, joints: Iterable[int]) -> None:
        self.counts.falls += self.torque.cut(joints)

    def _on_role(self, data: bytes, now: float) -> None:
        role = commands.Role.decode(data)
        if role.role in (commands.LEADER, commands.FOLLOWER):
            self.next_role = role

    def _on_joint_settings(self, data: bytes, now: float) -> None:
        self.counts.zeroings += commands.JointSettings.decode(data).sets_zero

    def _on_gripper(self, data: bytes, now: float) -> None:
        target = commands.GripperTarget.decode(data)
        self.counts.gripper_targets += 1
        self.counts.zeroings += target.sets_zero
        if not target.is_enabled:
            self.counts.gripper_disables += 1
            self._lose_torque([GRIPPER_JOINT])
        elif self.registers.stroke and not (self.is_leader or self.is_stopped):
            self.torque.enabled[GRIPPER_JOINT] = True
            self.targets[GRIPPER_JOINT] = min(max(target.opening, 0.0), self.registers.stroke)

    def _on_joints(self, pair: int, data: bytes, now: float) -> None:
        for joint, asked in enumerate(protocol.unpack_pair(data), start=2 * pair):
            self._asked[joint] = asked
            limits = self.registers.joints[joint]
            if self.is_following and self.torque.enabled[joint]:
                is_beyond = not limits.lower - ROUNDING <= asked <= limits.upper + ROUNDING
                self._limit_bits = self._limit_bits & ~(1 << joint) | is_beyond << joint
                self.targets[joint] = min(max(asked, limits.lower), limits.upper)
        if pair == 2:
            self._count_target(now)

    def _count_target(self, now: float) -> None:
        self.counts.targets += 1
        if self.is_following and all(self.torque.enabled[:GRIPPER_JOINT]):
            measured = self.plant.joints()[:GRIPPER_JOINT]
            self._watch.see(tuple(self._asked), measured, bool(self._limit_bits), now)
        else:
            self.counts.ignored_targets += 1
            self._watch.begin()

    def step(self, now: float) -> None:
        """Move on to `now` [s]."""
        for name in [name for name, fault in self.faults.items() if fault.is_over(now)]:
            self.clear(name, now)
        for joint in self.torque.arrived(now):
            self._planner.place(joint, float(self.plant.joints()[joint]))
            self._stand()
        duration = 0.0 if self._last_step is None else now - self._last_step
        self._last_step = now
        self._planner.move(*self._goal(), duration)
        self.plant.set_targets(self._planner.position)

    def _goal(self) -> tuple[list[float], list[float], list[float]]:
        """Targets, largest speeds and largest accelerations of the seven joints."""
        targets = list(self.targets)
        share = self.mode.speed / 100 if self.is_following else 1.0
        is_smooth = self.settings.smooths and self.mode.follow != protocol.FOLLOW_AT_ONCE
        speeds = [joint.max_velocity * share for joint in self.registers.joints]
        accelerations = [joint.max_acceleration if is_smooth else math.inf for joint in self.registers.joints]
        for joint, rest in REST.items():
            is_limp = self.torque.is_limp(joint)
            if self.is_stopped or is_limp:
                targets[joint] = rest
                speeds[joint], accelerations[joint] = FALLING if is_limp else SINKING
        gripper_acceleration = MAX_GRIPPER_ACCELERATION if self.settings.smooths else math.inf
        return targets, [*speeds, MAX_GRIPPER_VELOCITY], [*accelerations, gripper_acceleration]

    def status(self) -> protocol.Status:
        """What it says of itself when nothing is wrong with it."""
        return protocol.Status(
            ctrl_mode=protocol.CTRL_LEADER if self.is_leader else protocol.CTRL_TEACH if self.teach else self.mode.ctrl,
            arm_status=0x1 if self.is_stopped else 0xB if self.teach else 0x4 if self._limit_bits else 0x0,
            move_mode=self.mode.move,
            teach=self.teach,
            is_moving=math.dist(self.targets[:GRIPPER_JOINT], self.plant.joints()[:GRIPPER_JOINT]) > REACHED,
            limit_bits=self._limit_bits,
        )

    def feedback(self, now: float) -> list[Frame]:
        """What it sends at `now` [s]: answers that are due, and what comes by itself."""
        frames: list[Frame] = []
        while self._answers and self._answers[0][0] <= now:
            frames.append(self._answers.popleft()[1])
        tick = self._schedule.due(now)
        if tick is not None:
            frames += self._periodic(tick, now)
        for fault in self.faults.values():
            frames = fault.sends(frames, now)
        return frames

    def _periodic(self, tick: int, now: float) -> list[Frame]:
        joints, before, then = list(self.plant.joints()), self._reported, self._reported_at
        self._reported, self._reported_at = joints, now
        duration = max(now - then, 1e-3)
        velocity = [(new - old) / duration for new, old in zip(joints, before, strict=True)]
        reading = Reading(self.status(), joints, velocity, self.torque.enabled, bool(self.registers.stroke))
        if self.is_leader:
            return leader_frames(reading, tick, self.role)
        return follower_frames(reading, tick, flange_frames(joints), self.role.feedback_offset)
