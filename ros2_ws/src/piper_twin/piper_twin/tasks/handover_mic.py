"""Hand a microphone from the arm it lies in front of to the other arm."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from piper_twin import handover, household
from piper_twin.carrying import other_arm
from piper_twin.handover import Grips
from piper_twin.moves import Move
from piper_twin.predicates import rise
from piper_twin.robot import ARMS
from piper_twin.task import Readings, Scene, Task

GRIPS = Grips(give=0.026, take=-0.066, height=household.MICROPHONE_AXIS, width=0.030)
"""The giver holds it below the head, so that the handle is free for the taker."""
HELD_UP = 0.06
"""[m] above where it lay."""
HOLD_SPEED = 0.08
"""[m/s]: held, not swung."""

_COLOURS = ((0.13, 0.13, 0.15), (0.16, 0.28, 0.55), (0.55, 0.14, 0.16), (0.20, 0.38, 0.26))


class HandoverMic(Task):
    """The microphone is held up by the arm across from where it lay, and the other arm has let go.

    Any grip on it counts, and any way there: an arm that can reach across may take it without being handed it.
    """

    name = "handover_mic"
    instructions = (
        "hand over the microphone",
        "pass the microphone from one arm to the other",
        "pick up the mic and hand it to the other arm",
        "give the microphone to the other gripper and let go of it",
    )
    unseen_instructions = (
        "let the other hand take the mic",
        "transfer the microphone to the second arm",
    )
    horizon = 240

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """One microphone."""
        household.add_microphone(spec, "mic")

    def scene(self, rng: np.random.Generator) -> Scene:
        """It lies in front of either arm, its handle towards the middle."""
        colour = _COLOURS[int(rng.integers(len(_COLOURS)))]
        return Scene(
            placements={"mic": handover.lay_bar(rng, GRIPS)},
            instruction=self.phrase(rng),
            colours={"mic_handle": colour},
        )

    def success(self, now: Readings, start: Readings) -> Any:
        """In the grip of the other arm alone, 6 cm above its place, and nearly still."""
        done = False
        for arm in ARMS:
            crossed = handover.started_with(start, other_arm(arm), "mic")
            alone = handover.is_held_by(now, arm, "mic", GRIPS) & handover.has_let_go(now, other_arm(arm))
            done = done | (crossed & alone)
        return done & (rise(now, start, "mic") > HELD_UP) & (now.speed("mic_velocity") < HOLD_SPEED)

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """Who holds the microphone."""
        return handover.signals(now, start, "mic", GRIPS)

    def plan(self, start: Readings) -> list[Move]:
        """Take it below the head, meet in the middle, and hold on until it is the other's."""
        moves = handover.hand_over(start, "mic", GRIPS)
        return [*moves[:-1], Move(moves[-1].targets, straight=True, wait=0.6)]
