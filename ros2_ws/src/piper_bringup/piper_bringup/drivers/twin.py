"""Both arms in a live world of the twin: what the control loop sends moves them, nothing else does."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from piper_bringup.control.faults import Fault
from piper_bringup.live_world import LiveWorld
from piper_twin.episode_run import EpisodeRun
from vla_policy.types import Vector

_NOTICE = 0.2
"""Longest time that a reset waits for the control loop to take notice [s]."""


class TwinDriver:
    """Torque comes with `enable`; a reset of the world puts other arms in place, which have none yet."""

    def __init__(self, world: LiveWorld) -> None:
        """Drive the arms of `world`; somebody else lets its time pass (`pacing`)."""
        self._world = world
        self._driven: EpisodeRun | None = None
        self._is_stopped = False
        self._num_looks = 0
        world.when_reset(self._await_notice)

    def read(self) -> Vector:
        """What the encoders say [rad], [m], shape (14,)."""
        return self._world.joints()

    def write(self, command: npt.NDArray[np.floating[Any]]) -> None:
        """Send joint targets [rad], [m], shape (14,); arms without torque stay where they are."""
        if self._driven is not None and not self._is_stopped:
            self._driven.send(command)

    def hold(self) -> None:
        """Command the measured pose."""
        self.write(self.read())

    def close(self) -> None:
        """The arms keep what they were sent last."""

    def faults(self, now: float) -> list[Fault]:
        """A world that broke down, or arms without torque."""
        del now
        self._num_looks += 1
        episode = self._world.episode
        if self._world.moment.is_broken:
            return [Fault("world_broken", f"{episode.task}, seed {episode.seed}")]
        if self.enabled():
            return []
        if self._driven is not None:
            return [Fault("world_reset", f"{episode.task}, seed {episode.seed}")]
        return [Fault("joint_disabled", "all joints of the twin")]

    def checks(self) -> list[str]:
        """Nothing speaks against enabling."""
        return []

    def report(self, now: float) -> dict[str, object]:
        """Which world this is."""
        del now
        episode = self._world.episode
        return {"driver": "twin", "task": episode.task, "seed": episode.seed, "torque": self.enabled()}

    def enable(self) -> None:
        """Torque at once."""
        self._driven = self._world.run

    def enabled(self) -> bool:
        """Whether the arms have torque."""
        return self._driven is self._world.run

    def stop(self) -> None:
        """Hold what is measured, whatever `write` says."""
        self._is_stopped = True
        if self._driven is not None:
            self._driven.send(self._driven.moment.joints)

    def resume(self) -> None:
        """Take commands again."""
        self._is_stopped = False

    def _await_notice(self) -> None:
        """Come back once the control loop knows of the reset, so that it can be released and enabled at once.

        Having looked twice, it is no longer in the turn in which it looked first. Where no loop runs it comes back
        soon.
        """
        seen, deadline = self._num_looks, time.monotonic() + _NOTICE
        while self._num_looks < seen + 2 and time.monotonic() < deadline:
            time.sleep(0.001)
