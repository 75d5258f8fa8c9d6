"""The tasks, one file each."""

from __future__ import annotations

from piper_twin.task import Task
from piper_twin.tasks.beat_hammer_block import BeatHammerBlock
from piper_twin.tasks.blocks_rank_rgb import BlocksRankRgb
from piper_twin.tasks.blocks_stack import BlocksStack
from piper_twin.tasks.click_bell import ClickBell
from piper_twin.tasks.handover_block import HandoverBlock
from piper_twin.tasks.handover_mic import HandoverMic
from piper_twin.tasks.lift_pot import LiftPot
from piper_twin.tasks.move_can_pot import MoveCanPot, MoveCanPotStrict
from piper_twin.tasks.pick_bottle import PickBottle
from piper_twin.tasks.pick_dual_bottles import PickDualBottles
from piper_twin.tasks.place_a2b import PlaceA2bLeft, PlaceA2bLeftStrict, PlaceA2bRight, PlaceA2bRightStrict
from piper_twin.tasks.place_empty_cup import PlaceEmptyCup
from piper_twin.tasks.place_phone_stand import PlacePhoneStand
from piper_twin.tasks.play import PLAY_TASKS
from piper_twin.tasks.put_bottles_dustbin import PutBottlesDustbin
from piper_twin.tasks.shoe_place import ShoePlace
from piper_twin.tasks.stack_bowls import StackBowls
from vla_policy.errors import VlaError

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        ClickBell(),
        PlaceEmptyCup(),
        PickBottle(),
        StackBowls(),
        MoveCanPot(),
        MoveCanPotStrict(),
        HandoverMic(),
        HandoverBlock(),
        BlocksRankRgb(),
        PutBottlesDustbin(),
        BlocksStack(),
        ShoePlace(),
        PlaceA2bLeft(),
        PlaceA2bLeftStrict(),
        PlaceA2bRight(),
        PlaceA2bRightStrict(),
        BeatHammerBlock(),
        PickDualBottles(),
        LiftPot(),
        PlacePhoneStand(),
    )
}
"""Every benchmark task by name."""


def find_task(name: str) -> Task:
    """The benchmark or play task of that name.

    Raises:
        VlaError: there is none; the message lists those there are.
    """
    task = TASKS.get(name) or PLAY_TASKS.get(name)
    if task is None:
        raise VlaError(f"task {name!r} does not exist; choose one of {', '.join(sorted(TASKS))}")
    return task
