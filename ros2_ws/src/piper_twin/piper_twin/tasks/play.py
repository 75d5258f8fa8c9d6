"""Play: reaches, grasps, pushes and placements of plain solids, the free data a base policy is pretrained on.

No benchmark task and none of its objects occurs here, nor pressing from above: a tool comes down on nothing but to
grasp it with open fingers. Every play task has a target, two other solids and a pad, in
colours and places drawn anew each time, and starts from a random posture, so that the base learns to close the offset
it sees rather than a path.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mujoco
import numpy as np

from piper_twin import props
from piper_twin.moves import Move, ToolPose, Unreachable, base_position, nearer_arm
from piper_twin.robot import ARMS, GRIPPER_STROKE, HOME, arm_slice
from piper_twin.task import Placement, Readings, Scene, Task

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.13, 0.12),
    "green": (0.16, 0.58, 0.22),
    "blue": (0.14, 0.30, 0.76),
    "yellow": (0.90, 0.78, 0.16),
    "orange": (0.92, 0.48, 0.10),
    "purple": (0.48, 0.20, 0.62),
    "pink": (0.93, 0.55, 0.68),
    "white": (0.93, 0.93, 0.92),
    "black": (0.10, 0.10, 0.11),
    "cyan": (0.20, 0.72, 0.75),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Solid:
    """A plain shape; half sizes as MuJoCo takes them [m]."""

    name: str
    kind: str
    size: tuple[float, ...]
    height: float
    """Of its top when it lies on the table [m]."""
    graspable: bool = True


SOLIDS: dict[str, Solid] = {
    solid.name: solid
    for solid in (
        Solid("block", "box", (0.020, 0.020, 0.020), 0.040),
        Solid("brick", "box", (0.035, 0.018, 0.015), 0.030),
        Solid("tower", "box", (0.018, 0.018, 0.045), 0.090),
        Solid("cylinder", "cylinder", (0.020, 0.030), 0.060),
        Solid("ball", "sphere", (0.024,), 0.048),
        Solid("disc", "cylinder", (0.040, 0.012), 0.024, graspable=False),
        Solid("drum", "cylinder", (0.036, 0.026), 0.052, graspable=False),
    )
}

_TALL_AS_LYING = {"sphere": 0, "cylinder": 1, "box": 2}
"""Which half size is the height of the centre."""

PHRASES: dict[str, tuple[str, ...]] = {
    "reach": ("reach for the {target}", "go beside the {target}", "move next to the {target}", "approach the {target}"),
    "hover": ("move above the {target}", "hover over the {target}", "go over the {target}"),
    "lift": ("pick up the {target}", "lift the {target}", "grasp the {target} and raise it", "take the {target}"),
    "push": ("push the {target} {place}", "slide the {target} {place}", "move the {target} {place}"),
    "place": (
        "put the {target} on the {pad} pad",
        "place the {target} on the {pad} pad",
        "set the {target} down on the {pad} pad",
    ),
}  # fmt: skip

_PUSH_LENGTH = 0.08
_LIFT_HEIGHT = 0.10
HOVER_HEIGHT = 0.08
"""Of a hovering tool over the target's top [m]."""
BESIDE = 0.06
"""Between a tool that has reached beside the target and its middle [m]."""


class Play(Task):
    """One skill on one kind of solid."""

    horizon = 170

    def __init__(self, skill: str, target: Solid, others: tuple[Solid, Solid]) -> None:
        """`skill` is a key of `PHRASES`."""
        self.name = f"play_{skill}_{target.name}"
        self.instructions = PHRASES[skill]
        self._skill = skill
        self._solids = {"target": target, "other1": others[0], "other2": others[1]}

    def add_objects(self, spec: mujoco.MjSpec) -> None:
        """Target, two others and a pad."""
        pad = props.free_body(spec, "pad")
        props.add_geom(pad, "cylinder", (0.045, 0.003), name="pad", pos=(0, 0, 0.003), mass=0.2)
        for name, solid in self._solids.items():
            body = props.free_body(spec, name)
            centre = solid.size[_TALL_AS_LYING[solid.kind]]
            props.add_geom(body, solid.kind, solid.size, name=name, pos=(0, 0, centre), mass=0.06)

    def scene(self, rng: np.random.Generator) -> Scene:
        """Random places at least 10 cm apart, distinct colours, a random posture."""
        side = rng.choice((-1.0, 1.0))
        target = Placement(rng.uniform(0.22, 0.46), side * rng.uniform(0.04, 0.36), yaw=rng.uniform(-0.5, 0.5))
        placements = {"target": target, "pad": _apart([target], rng, side)}
        placements["other1"] = _apart(list(placements.values()), rng, rng.choice((-1.0, 1.0)))
        placements["other2"] = _apart(list(placements.values()), rng, rng.choice((-1.0, 1.0)))
        names = [str(name) for name in rng.permutation(list(COLOURS))[: len(placements)]]
        colour_of = dict(zip(placements, names, strict=True))
        words = {
            "target": f"{colour_of['target']} {self._solids['target'].name}",
            "pad": colour_of["pad"],
            "place": _push_direction(target.x, target.y)[0],
        }
        return Scene(
            placements=placements,
            instruction=self.phrase(rng).format(**words),
            colours={geom: COLOURS[colour] for geom, colour in colour_of.items()},
            joints=_random_posture(rng),
        )

    def success(self, now: Readings, start: Readings) -> Any:
        """The skill's goal is reached."""
        if self._skill == "lift":
            return now.z("target_position") > 0.06
        if self._skill == "push":
            return ((now["target_position"] - start["target_position"]) ** 2).sum(-1) ** 0.5 > 0.5 * _PUSH_LENGTH
        if self._skill == "place":
            on_pad = now.distance_xy("target_position", "pad_position") < 0.03
            return on_pad & (now.z("target_position") < 0.02) & self._is_away(now)
        if self._skill == "reach":
            return self._is_near(now, self._beside_height(), 0.045, 0.075)
        return self._is_near(now, self._solids["target"].height + HOVER_HEIGHT, 0.0, 0.015)

    def signals(self, now: Readings, start: Readings) -> dict[str, Any]:
        """Moved: the target left its place by 2 cm."""
        return {"moved": ((now["target_position"] - start["target_position"]) ** 2).sum(-1) ** 0.5 > 0.02}

    @staticmethod
    def _is_near(now: Readings, height: float, nearest: float, farthest: float) -> Any:
        """A tool is level with `height` and between the two horizontal distances from the target [m]."""
        near = False
        for arm in ARMS:
            distance = now.distance_xy(f"{arm}_tool", "target_position")
            level = abs(now.z(f"{arm}_tool") - height) < 0.012
            near = near | (level & (distance >= nearest) & (distance < farthest))
        return near

    def _beside_height(self) -> float:
        return max(0.02, 0.5 * self._solids["target"].height)

    @staticmethod
    def _is_away(now: Readings) -> Any:
        away = True
        for arm in ARMS:
            away = away & (((now[f"{arm}_tool"] - now["target_position"]) ** 2).sum(-1) ** 0.5 > 0.07)
        return away

    def plan(self, start: Readings) -> list[Move]:
        """Straight to the goal; grasps come from above."""
        x, y, _ = (float(value) for value in start["target_position"])
        arm = nearer_arm(y)
        top = self._solids["target"].height
        if self._skill == "hover":
            return [Move({arm: ToolPose(x, y, top + HOVER_HEIGHT)}, wait=0.2)]
        if self._skill == "reach":
            return self._reach(arm, x, y)
        if self._skill == "push":
            return self._push(arm, x, y)
        grasp_z = max(0.016, top - 0.022)
        grasp = ToolPose(x, y, grasp_z)
        closed = dataclasses.replace(grasp, opening=0.0)
        moves = [Move({arm: dataclasses.replace(grasp, z=top + 0.05)}), Move({arm: grasp}, wait=0.1)]
        moves.append(Move({arm: closed}, wait=0.3))
        lifted = dataclasses.replace(closed, z=grasp_z + _LIFT_HEIGHT)
        moves.append(Move({arm: lifted}, wait=0.2))
        if self._skill == "place":
            pad_x, pad_y, _ = (float(value) for value in start["pad_position"])
            over = dataclasses.replace(lifted, x=pad_x, y=pad_y)
            down = dataclasses.replace(over, z=grasp_z + 0.012)
            released = dataclasses.replace(down, opening=GRIPPER_STROKE)
            moves += [Move({arm: over}), Move({arm: down}, wait=0.1), Move({arm: released}, wait=0.2)]
            moves.append(Move({arm: dataclasses.replace(released, z=grasp_z + 0.10)}, wait=0.2))
        return moves

    def _reach(self, arm: str, x: float, y: float) -> list[Move]:
        """Down beside the target, on the side of the arm's own base."""
        angle = math.atan2(y - base_position(arm)[1], x)
        beside = ToolPose(x - BESIDE * math.cos(angle), y - BESIDE * math.sin(angle), self._beside_height())
        above = dataclasses.replace(beside, z=beside.z + 0.06)
        return [Move({arm: above}), Move({arm: beside}, wait=0.2)]

    def _push(self, arm: str, x: float, y: float) -> list[Move]:
        """Down before the target, then through it."""
        _, toward = _push_direction(x, y)
        height = max(0.012, 0.5 * self._solids["target"].height)
        before = ToolPose(x - 0.055 * toward[0], y - 0.055 * toward[1], height, opening=0.0)
        through = dataclasses.replace(before, x=x + _PUSH_LENGTH * toward[0] - 0.02, y=y + _PUSH_LENGTH * toward[1])
        above = dataclasses.replace(before, z=height + 0.08)
        return [Move({arm: above}), Move({arm: before}), Move({arm: through}, speed=0.5, wait=0.2)]


def _push_direction(x: float, y: float) -> tuple[str, tuple[float, float]]:
    """Where a target is pushed, in words and as a unit vector: it must stay in reach and on the table."""
    if x >= 0.36:
        return ("to the right", (0.0, -1.0)) if y > 0.0 else ("to the left", (0.0, 1.0))
    angle = math.atan2(y - base_position(nearer_arm(y))[1], x)
    return "forward", (math.cos(angle), math.sin(angle))


def _apart(placed: list[Placement], rng: np.random.Generator, side: float) -> Placement:
    """A place at least 10 cm from all others, or the best of 50 tries."""
    tries = [
        Placement(rng.uniform(0.20, 0.48), side * rng.uniform(0.04, 0.38), yaw=rng.uniform(-math.pi, math.pi))
        for _ in range(50)
    ]
    clear = [min(math.hypot(one.x - other.x, one.y - other.y) for other in placed) for one in tries]
    far_enough = [index for index, distance in enumerate(clear) if distance > 0.10]
    return tries[far_enough[0] if far_enough else int(np.argmax(clear))]


def _random_posture(rng: np.random.Generator) -> np.ndarray:
    """Both tools somewhere over their half of the table."""
    from piper_twin.expert import solve_pose  # mink and scipy, 0.5 s that importing the tasks shall not cost

    joints = np.tile(HOME, len(ARMS))
    for arm in ARMS:
        centre = base_position(arm)[1]
        pose = ToolPose(rng.uniform(0.22, 0.44), centre + rng.uniform(-0.14, 0.14), rng.uniform(0.10, 0.24))
        try:
            solution = solve_pose(arm, pose, tuple(HOME[:6]))
        except Unreachable:
            continue
        joints[arm_slice(arm)] = np.append(solution, rng.choice((0.0, GRIPPER_STROKE)))
    return joints


def _all_play() -> dict[str, Play]:
    names = list(SOLIDS)
    tasks = []
    for index, (name, solid) in enumerate(SOLIDS.items()):
        others = (SOLIDS[names[(index + 1) % len(names)]], SOLIDS[names[(index + 3) % len(names)]])
        skills = ("reach", "hover", "push", *(("lift", "place") if solid.graspable else ()))
        tasks += [Play(skill, SOLIDS[name], others) for skill in skills]
    return {task.name: task for task in tasks}


PLAY_TASKS: dict[str, Play] = _all_play()
"""Every play task by name."""
