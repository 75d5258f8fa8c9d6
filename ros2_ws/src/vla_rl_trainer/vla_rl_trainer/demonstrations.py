"""Demonstrations of the scripted experts, as episodes a dataset can hold."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Protocol

from piper_twin.demonstrate import Demonstration
from piper_twin.episode import Episode
from piper_twin.robot import DUAL_PIPER
from vla_policy.errors import VlaError
from vla_rl_trainer.dataset import EpisodeData

MAX_TRIES = 20
"""Worlds tried for each demonstration wanted before giving up, unless told otherwise."""


class Player(Protocol):
    """Processes that run experts."""

    num_workers: int

    def demonstrate(self, episodes: Sequence[Episode], *, look_every: int | None = 1) -> list[Demonstration]:
        """Let experts try these episodes."""
        ...


def expert_demonstrations(
    env: Player,
    tasks: Sequence[str],
    num_per_task: int,
    *,
    split: str = "demonstration",
    first_seed: int = 0,
    look_every: int = 1,
    max_tries: int = MAX_TRIES,
    leave_out: bool = False,
) -> Iterator[tuple[Episode, Demonstration]]:
    """Successful tries of the experts, `num_per_task` of each task; worlds the expert fails in are skipped.

    Args:
        env: Its workers run the experts; running episodes are lost.
        tasks: Task names.
        num_per_task: Wanted of each.
        split: Random streams the worlds are drawn from.
        first_seed: Seed of the first world tried.
        look_every: Control steps from image to image.
        max_tries: Worlds tried for each demonstration wanted.
        leave_out: Go on without a task whose expert fails more often than that, and say so.

    Raises:
        VlaError: the count is not positive, or an expert fails nearly always.
    """
    if num_per_task < 1:
        raise VlaError(f"{num_per_task} demonstrations were asked for; at least one a task is needed")
    missing = dict.fromkeys(tasks, num_per_task)
    seeds = dict.fromkeys(tasks, first_seed)
    while any(missing.values()):
        episodes = []
        for task in tasks:
            if missing[task] and seeds[task] - first_seed >= max_tries * num_per_task:
                if not leave_out:
                    raise VlaError(f"the expert of {task} fails too often; run it alone: python -m piper_twin.rates")
                print(f"{task}: only {num_per_task - missing[task]} of {num_per_task} succeeded", file=sys.stderr)
                missing[task] = 0
            episodes += [Episode(task, seeds[task] + offset, split) for offset in range(missing[task])]
            seeds[task] += missing[task]
        for batch in _batches(episodes, 32 * env.num_workers):
            for episode, demonstration in zip(batch, env.demonstrate(batch, look_every=look_every), strict=True):
                if demonstration.success:
                    missing[episode.task] -= 1
                    yield episode, demonstration


def _batches(episodes: list[Episode], size: int) -> Iterator[list[Episode]]:
    for first in range(0, len(episodes), size):
        yield episodes[first : first + size]


def to_episode_data(episode: Episode, demonstration: Demonstration) -> EpisodeData:
    """The same episode with its images by camera name.

    Raises:
        VlaError: control steps without an image, which a dataset has no place for.
    """
    if len(demonstration.looked_L) != len(demonstration.action_TA):
        raise VlaError(f"{episode} was not looked at in every control step; collect it with look_every=1")
    images = {camera: demonstration.images_LCHW3[:, index] for index, camera in enumerate(DUAL_PIPER.camera_names)}
    return EpisodeData(
        images=images,
        state=demonstration.state_TS,
        action=demonstration.action_TA,
        instruction=demonstration.instruction,
        success=demonstration.success,
        seed=episode.seed,
        task=episode.task,
    )
