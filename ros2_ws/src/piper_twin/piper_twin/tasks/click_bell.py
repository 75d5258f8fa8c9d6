"""Press the button of a desk bell with the nearer arm."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from piper_twin import props
from piper_twin.moves import Move, ToolPose, nearer_arm
from piper_twin.robot import ARMS
from piper_twin.task import Placement, Readings, Scene, Task

PRESSED = 0.005
"""Button travel that rings the bell [m], of 8 mm."""
BUTTON_TOP = 0.058
"""Height of the unpressed button [m]."""


class ClickBell(Task):
    """The bell rings when a gripper presses its button down."""

    name = "click_bell"
    instructions = (
        "click the bell",
        "press the bell's button",
        "ring the bell on the table",
        "push down the top of the bell",
    )
    unseen_instructions = (
        "hit the button on top of the bell",
        "make the desk bell ring",
    )
    horizon = 64

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """One bell."""
        props.add_bell(spec, "bell")

    def scene(self, rng: np.random.Generator) -> Scene:
        """The bell stands anywhere in front of either arm."""
        side = rng.choice((-1.0, 1.0))
        bell = Placement(x=rng.uniform(0.26, 0.42), y=side * rng.uniform(0.10, 0.32))
        return Scene(placements={"bell": bell}, instruction=self.phrase(rng))

    def success(self, now: Readings, start: Readings) -> Any:
        """The button is down, the bell still stands, and a tool is over it."""
        del start
        over = False
        for arm in ARMS:
            over = over | (now.distance_xy(f"{arm}_tool", "bell_position") < 0.04)
        return over & (now.scalar("bell_button") > PRESSED) & (now.z("bell_up") > 0.95)

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """Touched: the button moved; pushed: the bell slid by 2 cm; lifted: it left the table."""
        moved = ((now["bell_position"] - start["bell_position"]) ** 2)[..., :2].sum(-1) ** 0.5
        return {
            "touched": now.scalar("bell_button") > 0.001,
            "pushed": moved > 0.02,
            "lifted": now.z("bell_position") > 0.02,
        }

    def plan(self, start: Readings) -> list[Move]:
        """Close the gripper on the way, hover, press, withdraw."""
        x, y, _ = (float(value) for value in start["bell_position"])
        arm = nearer_arm(y)
        hover = ToolPose(x, y, BUTTON_TOP + 0.06, opening=0.0)
        press = ToolPose(x, y, BUTTON_TOP - 0.008, opening=0.0)
        return [Move({arm: hover}), Move({arm: press}, wait=0.2), Move({arm: hover})]
