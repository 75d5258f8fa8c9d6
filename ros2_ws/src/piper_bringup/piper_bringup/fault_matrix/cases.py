"""Every fault: how it happens, what it must lead to, and what the operator does about it before releasing."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable

from piper_bringup.can.protocol import ARM_STATUS, MOTOR_BITS
from piper_bringup.fault_matrix.judge import Expectation, state_of
from piper_bringup.fault_matrix.stage import Stage
from piper_twin.robot import DUAL_PIPER
from vla_policy import topics

Deed = Callable[[Stage, str], None]
"""Something done to the stage, to this arm if to one."""
FROZEN = 1.0
"""How long a process stands still [s]."""
CLOCK_STEP = 5.0
"""How far the clock jumps [s]."""
SETTLE = 0.3
"""After a clock was set, or an arm switched on [s]."""
_PATIENCE = 10.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the matrix before it is played."""

    name: str
    happens: Deed
    expected: Expectation
    remedy: str
    """What the operator does, in words."""
    remedied: Deed
    in_arm: bool = True
    """Whether it happens to one arm."""


def _inject(fault: str, **settings: object) -> Deed:
    return lambda stage, arm: stage.inject(fault, arm, **settings)


def _clear(stage: Stage, _: str) -> None:
    stage.clear()


def _power(stage: Stage, arm: str) -> None:
    stage.clear()
    stage.switch_off_and_on(arm)
    time.sleep(SETTLE)  # until the arm has said that it has no torque


def _before_enabling(fault: str, **settings: object) -> Deed:
    """While robot_node is away; the arms hold what the last one sent."""

    def happens(stage: Stage, arm: str) -> None:
        stage.kill("robot")
        stage.inject(fault, arm, **settings)
        stage.start_again("robot")

    return happens


def _refuse_torque(stage: Stage, arm: str) -> None:
    """The arm comes back from power off, and gives no torque."""
    began = time.monotonic()
    stage.switch_off_and_on(arm)
    stage.inject("enable_refused", arm)
    while (state := state_of(stage.operator.told(began))) != "disabled" and time.monotonic() < began + _PATIENCE:
        if state == "held":
            stage.operator.ask(topics.RELEASE)
        time.sleep(0.1)


def _freeze(stage: Stage, _: str) -> None:
    stage.send("robot", signal.SIGSTOP)
    time.sleep(FROZEN)
    stage.send("robot", signal.SIGCONT)


def _set_clock_right(stage: Stage, _: str) -> None:
    """And let it settle: it jumps once more."""
    stage.operator.set_clock_right("robot")
    time.sleep(SETTLE)


def _nothing(*_: object) -> None:
    """It is over by itself."""


def _stop(stage: Stage, _: str) -> None:
    stage.operator.ask(topics.STOP)


def _in_arm(name: str, fault: str, named: tuple[str, ...], **settings: object) -> Case:
    """Goes away by itself or by hand; nothing but a release is needed then."""
    return Case(
        name=name,
        happens=_inject(fault, **settings),
        expected=Expectation(named=named),
        remedy="put right",
        remedied=_clear,
    )


def _needs_power(name: str, fault: str, named: tuple[str, ...], *, sinks: bool = False, **settings: object) -> Case:
    return Case(
        name=name,
        happens=_inject(fault, **settings),
        expected=Expectation(named=named, sinks=sinks),
        remedy="arm off and on",
        remedied=_power,
    )


def _check(name: str, named: tuple[str, ...], happens: Deed, *, keeps_torque: bool = True) -> Case:
    return Case(
        name=name,
        happens=happens,
        expected=Expectation(named=named, state="disabled", refuses_torque=True, keeps_torque=keeps_torque),
        remedy="put right",
        remedied=_clear,
    )


_STATUS_NAMES = {
    0x1: "emergency_stop",
    0x4: "target_refused",
    0x7: "collision",
    0xB: "teaching",
    0xC: "teaching",
    0xD: "teaching",
    0xE: "overheated",
    0xF: "overheated",
}
"""Status to its fault, as the documentation has them; `arm_status` for all others that a release is enough for."""
_POWER_NAMES = {0x5: "joint_communication", 0x6: "brake_closed", 0x9: "joint_error"}
_MOTOR_NAMES = {
    "undervoltage": "undervoltage",
    "motor hot": "overheated",
    "overcurrent": "overcurrent",
    "driver hot": "overheated",
    "collision": "collision",
    "stalled": "stall",
}


def _arm_cases() -> list[Case]:
    """What an emulated arm can do while it moves."""
    cases = [
        _in_arm(f"silent: {group}", "silent", (f"feedback_lost: {{arm}} arm, {words}",), groups=[group])
        for group, words in (
            ("joints_12", "joints 1-2"),
            ("joints", "joints 1-2"),
            ("status", "status"),
            ("gripper", "gripper"),
            ("motor_fast", "motor"),
            ("motor_slow", "motor"),
        )
    ]
    cases += [
        _in_arm("late by 0.4 s", "late", ("bus_silent: {arm} arm",), delay=0.4),
        _in_arm("98 % dropped", "dropped", ("feedback_lost: {arm} arm",), share=0.98),
        _in_arm("bus off", "bus_off", ("bus_silent: {arm} arm", "send_failed: {arm} arm")),
    ]
    for code, words in ARM_STATUS.items():
        if code in _POWER_NAMES:
            cases.append(_needs_power(f"status: {words}", "status", (f"{_POWER_NAMES[code]}: {{arm}} arm",), code=code))
        elif code:
            name = _STATUS_NAMES.get(code, "arm_status")
            cases.append(_in_arm(f"status: {words}", "status", (f"{name}: {{arm}} arm",), code=code))
    for place, words in enumerate(MOTOR_BITS):
        if words in _MOTOR_NAMES:
            named = (f"{_MOTOR_NAMES[words]}: {{arm}} arm, joint 2",)
            cases.append(_in_arm(f"motor: {words}", "motor", named, motor=2, bits=1 << place))
    return [
        *cases,
        _needs_power("motor: error", "motor", ("joint_error: {arm} arm, joint 2",), motor=2),
        _needs_power("stop pressed", "stop_pressed", ("emergency_stop: {arm} arm",), sinks=True),
        _needs_power("became a leader", "leader", ("leader_role: {arm} arm",)),
        Case(
            name="power lost",
            happens=lambda stage, arm: stage.switch_off_and_on(arm),
            expected=Expectation(
                named=tuple(f"{name}: {{arm}} arm" for name in ("joint_disabled", "not_can_controlled")),
                keeps_torque=False,
            ),
            remedy="power is back",
            remedied=_clear,
        ),
    ]


def _checks() -> list[Case]:
    """What is found before the arms are enabled."""
    return [
        _check("limits corrupted", ("{arm} arm: joint 2 is limited to",), _before_enabling("limits")),
        _check("firmware too old", ("{arm} arm: its firmware",), _before_enabling("firmware", software="S-V1.4-9")),
        _check(
            "firmware unknown",
            ("{arm} arm: it did not tell its firmware",),
            _before_enabling("firmware", software=None),
        ),
        _check("stroke unset", ("{arm} arm: its gripper's stroke was never set",), _before_enabling("stroke_unset")),
        _check("leader role", ("leader_role: {arm} arm",), _before_enabling("leader")),
        _check("torque refused", ("enable_timeout",), _refuse_torque, keeps_torque=False),
    ]


def _beside(name: str, happens: Deed, expected: Expectation, remedy: str, remedied: Deed) -> Case:
    """Happens to no arm."""
    return Case(name=name, happens=happens, expected=expected, remedy=remedy, remedied=remedied, in_arm=False)


def _clock(offset: float) -> Case:
    return _beside(
        f"clock jumps by {offset:+.0f} s",
        lambda stage, _: stage.operator.set_clock_wrong("robot", offset),
        Expectation(named=("clock_jump",)),
        "clock set right",
        _set_clock_right,
    )


def _graph_cases() -> list[Case]:
    """What happens beside the arms."""
    head = DUAL_PIPER.camera_names[0]
    return [
        _beside(
            "camera lost",
            lambda stage, _: stage.operator.lose_cameras([head]),
            Expectation(named=(f"no image from camera {head}",), by="policy", state="ready"),
            "camera is back",
            lambda stage, _: stage.operator.lose_cameras([]),
        ),
        _beside(
            "policy_node killed",
            lambda stage, _: stage.kill("policy"),
            Expectation(named=("no_commands",), state="ready"),
            "policy_node started again",
            lambda stage, _: stage.start_again("policy"),
        ),
        _clock(CLOCK_STEP),
        _clock(-CLOCK_STEP),
        _beside(
            f"robot_node frozen for {FROZEN:g} s",
            _freeze,
            Expectation(named=("loop_stalled",)),
            "it runs again",
            _nothing,
        ),
        _beside(
            "robot_node killed",
            lambda stage, _: stage.kill("robot"),
            Expectation(named=("no joint states",), by="policy", state=None),
            "robot_node started again",
            lambda stage, _: stage.start_again("robot"),
        ),
        _beside("operator's stop", _stop, Expectation(named=("stopped",)), "cell is safe", _nothing),
    ]


def cases() -> list[Case]:
    """All of them, in the order in which they are played."""
    return [*_arm_cases(), *_graph_cases(), *_checks()]
