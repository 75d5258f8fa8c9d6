"""One fault from beginning to end: the arms move, it happens, they hold, the operator puts it right, they move on."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Sequence

from piper_bringup.fault_matrix.cases import Case
from piper_bringup.fault_matrix.evidence import Evidence, Told, is_moving
from piper_bringup.fault_matrix.judge import (
    Expectation,
    Record,
    holding,
    judged,
    naming,
    refusing,
    state_of,
)
from piper_bringup.fault_matrix.stage import Stage
from vla_policy import topics

POLL = 0.05
BEFORE = 1.0
"""Motion is looked for over this time [s]."""
HOLD_PATIENCE = 20.0
"""For the arms to hold, and for the diagnostics to say why [s]; an arm that sinks takes some."""
MOVE_PATIENCE = 40.0
"""For the arms to move [s]."""
ASK_EVERY = 0.5
"""An operator is no faster [s]."""
NOTHING_TO_DO = "the robot is "
"""So begins the answer to a request that came too late: the diagnostics tell the state five times a second."""
MAX_ATTEMPTS = 5
LOAD = ("loop_stalled", "feedback_lost", "bus_silent", "sender_stalled", "not_following")
"""What a busy computer may hold the robot for by itself, a moment before the fault."""


def play(case: Case, arm: str, stage: Stage) -> Record:
    """Play a fault; again where the load of the computer came before it."""
    named = tuple(word.format(arm=arm) for word in case.expected.named)
    expected = dataclasses.replace(case.expected, named=named)
    for attempt in itertools.count(1):
        evidence = _played(case, expected, arm, stage)
        record = judged(case.name, arm if case.in_arm else "", expected, evidence)
        if record.is_good or attempt == MAX_ATTEMPTS or not _is_disturbed(evidence.told, expected):
            return dataclasses.replace(record, attempts=attempt)
    raise AssertionError("the last attempt returns")


def _is_disturbed(told: Sequence[Told], expected: Expectation) -> bool:
    """Whether the robot was held by something else, which load explains."""
    held = next((one.text for one in told if one.state == "held"), "")
    return any(held.startswith(name) and not any(word.startswith(name) for word in expected.named) for name in LOAD)


def _played(case: Case, expected: Expectation, arm: str, stage: Stage) -> Evidence:
    _set_in_motion(stage)
    before, began = stage.counted(), time.monotonic()
    was_moving = is_moving(stage.samples(began - BEFORE))
    case.happens(stage, arm)
    answers: list[tuple[bool, str]] = []

    def seen() -> Evidence:
        told, samples = stage.operator.told(began), stage.samples(began)
        return Evidence(began=began, was_moving=was_moving, samples=samples, told=told, answers=answers)

    def is_over() -> bool:
        evidence = seen()
        if expected.refuses_torque and refusing(expected, evidence) and not any(is_on for is_on, _ in answers):
            answers.append(stage.operator.ask(topics.ENABLE))
            return False
        is_named = naming(evidence.told, expected) is not None
        return (is_named and not holding(expected, evidence)) or _is_disturbed(evidence.told, expected)

    _wait_for(is_over, HOLD_PATIENCE, ASK_EVERY if expected.refuses_torque else POLL)
    evidence, remedied = seen(), time.monotonic()
    case.remedied(stage, arm)
    evidence.steps = [case.remedy, *_set_in_motion(stage)]
    evidence.moved_on = is_moving(stage.samples(max(remedied, time.monotonic() - BEFORE)))
    evidence.counted = {name: count - before[name] for name, count in stage.counted().items()}
    return evidence


def _set_in_motion(stage: Stage) -> list[str]:
    """Release and enable until the arms move, or for as long as somebody would try; the requests that were granted."""
    steps: list[str] = []
    begin = time.monotonic()

    def moves() -> bool:
        now = time.monotonic()
        state = state_of(stage.operator.told(now - BEFORE))
        if state == "moving" and now - begin > BEFORE:
            return is_moving(stage.samples(now - BEFORE))
        for wanted, service, word in (("held", topics.RELEASE, "release"), ("disabled", topics.ENABLE, "enable")):
            if state == wanted and now >= _next[0]:
                _next[0] = now + ASK_EVERY
                granted, text = stage.operator.ask(service)
                if granted and not text.startswith(NOTHING_TO_DO):
                    steps.append(word)
        return False

    _next = [begin]
    _wait_for(moves, MOVE_PATIENCE, POLL)
    return steps


def _wait_for(condition: Callable[[], bool], patience: float, every: float) -> None:
    """Until it is so, or for as long as patience lasts [s]."""
    deadline = time.monotonic() + patience
    while not condition() and time.monotonic() < deadline:
        time.sleep(every)
