"""What a fault must lead to, and whether it did."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from piper_bringup.fault_matrix.evidence import Evidence, Told, at_rest_since, distance_from_target, drift

WATCHED = 1.0
"""Arms must have stood still for this long [s]."""
MAX_DISTANCE = 0.03
"""Joints that hold are this near to their targets [rad]; gravity bends the servos of the twin."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """Of one fault."""

    named: tuple[str, ...]
    """One of these must be in a complaint on the diagnostics, and in the refusal where torque is refused."""
    by: str = "robot"
    """Whose complaint."""
    state: str | None = "held"
    """What the robot says it is; None: it does not say anything any more."""
    refuses_torque: bool = False
    """Found by the checks before enabling."""
    keeps_torque: bool = True
    """False: the fault itself takes it."""
    sinks: bool = False
    """By itself, damped: the pose to hold goes with the arm."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One row of the matrix."""

    name: str
    arm: str
    """Where it was injected; empty: not in an arm."""
    state: str
    diagnostic: str
    held: bool
    """The arms stand still where they were told to last, with torque, in the state that was expected."""
    named: bool
    recovered: bool
    """By the steps in `how`; the arms moved again."""
    how: str
    seconds_to_hold: float | None
    drift: float | None
    """While they were watched [rad]."""
    distance: float | None
    """Of the farthest joint from its target [rad]."""
    disables: int
    """Frames that would have cut torque."""
    resets: int
    counted: dict[str, int]
    problems: tuple[str, ...]
    """Everything that was not as it must be."""
    attempts: int = 1
    """More than one: before, load held the robot for another reason."""

    @property
    def is_good(self) -> bool:
        """Whether nothing was wrong."""
        return not self.problems


def naming(told: Sequence[Told], expected: Expectation) -> Told | None:
    """The first complaint that names the fault."""
    return next(
        (
            one
            for one in told
            if one.who == expected.by and one.is_complaint and any(word in one.text for word in expected.named)
        ),
        None,
    )


def state_of(told: Sequence[Told]) -> str | None:
    """What the robot said last that it is; None: it said nothing."""
    return next((one.state for one in reversed(told) if one.who == "robot"), None)


def _stood_since(evidence: Evidence) -> float | None:
    """Since when the arms have stood still [s]; None: not for long enough."""
    if not evidence.samples:
        return None
    since = at_rest_since(evidence.samples)
    return since if evidence.samples[-1].time - since >= WATCHED else None


def standing(evidence: Evidence, *, sinks: bool = False) -> list[str]:
    """Why the arms are not held in place; nothing: they are."""
    if not evidence.samples:
        return ["nothing was seen of the arms"]
    if _stood_since(evidence) is None:
        return ["the arms move"]
    distance = distance_from_target(evidence.samples[-1])
    return [f"a joint is {distance:.3f} rad from its target"] if distance > MAX_DISTANCE and not sinks else []


def holding(expected: Expectation, evidence: Evidence) -> list[str]:
    """Why this is not what a held robot looks like; nothing: it is."""
    problems = standing(evidence, sinks=expected.sinks)
    state = state_of(evidence.told)
    if expected.state is not None and state != expected.state:
        problems.append(f"the robot is {state or 'silent'}, not {expected.state}")
    if expected.keeps_torque and not all(sample.has_torque for sample in evidence.samples):
        problems.append("a joint has lost its torque")
    return problems


def refusing(expected: Expectation, evidence: Evidence) -> list[str]:
    """Why torque was not refused for the right reason; nothing: it was, or need not be."""
    if not expected.refuses_torque:
        return []
    if any(is_on for is_on, _ in evidence.answers):
        return ["the robot was enabled all the same"]
    if not any(word in text for _, text in evidence.answers for word in expected.named):
        last = evidence.answers[-1][1] if evidence.answers else "nothing"
        return [f"the answer to /robot/enable does not name it: {last}"]
    return []


def _sentence(text: str, expected: Expectation) -> str:
    """What names the fault, out of all that was told."""
    return next(part for part in text.split("; ") if any(word in part for word in expected.named))


def judged(name: str, arm: str, expected: Expectation, evidence: Evidence) -> Record:
    """The row of one fault."""
    since = _stood_since(evidence)
    named = naming(evidence.told, expected)
    not_held, not_refused = holding(expected, evidence), refusing(expected, evidence)
    harmful = [f"{count} {what}" for what, count in evidence.counted.items() if count]
    problems = [*not_held, *not_refused, *harmful]
    if not evidence.was_moving:
        problems.append("the arms stood still when it happened")
    if named is None:
        problems.append(f"no diagnostic of {expected.by} names {' or '.join(expected.named)}")
    if not evidence.moved_on:
        problems.append("the arms did not move again")
    last = next((one.text for one in reversed(evidence.told) if one.who == expected.by), "nothing")
    return Record(
        name=name,
        arm=arm,
        state=state_of(evidence.told) or "silent",
        diagnostic=_sentence(named.text, expected) if named else last,
        held=not not_held,
        named=named is not None and not not_refused,
        recovered=evidence.moved_on,
        how=", ".join(evidence.steps),
        seconds_to_hold=None if since is None else round(max(0.0, since - evidence.began), 2),
        drift=None if since is None else round(drift(evidence.samples, since), 5),
        distance=round(distance_from_target(evidence.samples[-1]), 6) if evidence.samples else None,
        disables=evidence.counted.get("disables", 0) + evidence.counted.get("gripper_disables", 0),
        resets=evidence.counted.get("resets", 0),
        counted=dict(evidence.counted),
        problems=tuple(problems),
    )
