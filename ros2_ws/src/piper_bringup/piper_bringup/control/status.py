"""What the robot tells of itself on the diagnostics."""

from __future__ import annotations

from typing import NamedTuple

from piper_bringup.control.faults import Reaction
from piper_bringup.control.loop import ControlLoop
from piper_bringup.control.loop_thread import Punctuality
from piper_bringup.control.states import State, Tick


class RobotStatus(NamedTuple):
    """For one diagnostic message."""

    problem: str | None
    """Why it does not move as told."""
    note: str | None
    """What else is worth a warning."""
    values: dict[str, object]


def robot_status(loop: ControlLoop, tick: Tick, punctuality: Punctuality, report: dict[str, object]) -> RobotStatus:
    """Put together what control loop, its thread and the driver know."""
    wrong = [fault for fault in tick.faults if fault.kind.reaction is Reaction.HOLD]
    warnings = [fault for fault in tick.faults if fault.kind.reaction is Reaction.WARN]
    problem = tick.reason if tick.state is State.HELD else "; ".join(map(str, wrong)) or None
    note = "; ".join(map(str, warnings)) or tick.reason or None
    values: dict[str, object] = {
        "state": tick.state.value,
        "reason": tick.reason,
        "faults": ", ".join(fault.name for fault in tick.faults),
        "chunks": loop.num_chunks,
        "refusals": sum(loop.refusals.values()),
        **{f"refused_{name}": count for name, count in sorted(loop.refusals.items())},
        "last_refusal": loop.last_refusal,
        "jitter_p50_ms": _milliseconds(punctuality.late_p50),
        "jitter_p99_ms": _milliseconds(punctuality.late_p99),
        "jitter_p999_ms": _milliseconds(punctuality.late_p999),
        "jitter_max_ms": _milliseconds(punctuality.late_max),
        "tick_p99_ms": _milliseconds(punctuality.duration_p99),
        "ticks": punctuality.num_turns,
        "overruns": punctuality.num_overruns,
        "realtime": punctuality.is_realtime,
    }
    return RobotStatus(problem, note, values | report)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000.0, 3)
