"""One world of the twin that lives while others look at it: commands come in and images go out at any time.

It is the world that `evaluate` plays without ROS, bit for bit (`piper_twin.episode_run`); only the clock is another.
Whoever calls `advance` is that clock (`pacing.py`); everybody else reads the newest moment and never waits for physics.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from piper_twin.cell import TIMESTEP
from piper_twin.episode import Episode
from piper_twin.episode_run import EpisodeRun, Moment, Painter
from vla_policy.errors import VlaError
from vla_policy.types import Image, Vector


class LiveWorld:
    """Any thread may call any method."""

    def __init__(self, task: str, seed: int, split: str = "evaluation", randomization: str = "off") -> None:
        """Start the episode that `task`, `seed` and `split` name, varied as `randomization` (off, standard, wide).

        Raises:
            VlaError: they name nothing.
        """
        self.randomization = randomization
        self._stepping, self._resetting = threading.Lock(), threading.Lock()
        self._steps = 0
        self._listeners: list[Callable[[], None]] = []
        self._drawing = ThreadPoolExecutor(1, thread_name_prefix="drawing")  # OpenGL belongs to one thread
        self._painter = Painter()
        self.reset(Episode(task, seed, split))

    @property
    def time(self) -> float:
        """Simulated time since this object was made [s]; a reset does not turn it back."""
        return self._steps * TIMESTEP

    @property
    def run(self) -> EpisodeRun:
        """The episode in progress; what is sent to it is lost once another has begun."""
        return self._run

    @property
    def moment(self) -> Moment:
        """The newest one."""
        return self._run.moment

    @property
    def episode(self) -> Episode:
        """What is being played."""
        return self.moment.world.episode

    @property
    def instruction(self) -> str:
        """What the robot is told to do in this world."""
        return self.moment.world.instruction

    def reset(self, episode: Episode) -> None:
        """Start an episode; the arms stand at its start at once.

        Raises:
            VlaError: there is no such task; the world goes on as it was.
        """
        with self._resetting:
            run = EpisodeRun(episode, self.randomization)
            with self._stepping:
                self._run = run
            for listener in self._listeners:
                listener()

    def when_reset(self, listener: Callable[[], None]) -> None:
        """Call `listener` in every later reset before it returns: the arms are not where they were."""
        self._listeners.append(listener)

    def command(self, targets: npt.NDArray[np.floating]) -> None:
        """Send joint targets [rad], gripper openings [m], shape (14,); they stay on the wire until the next ones.

        Raises:
            VlaError: they have another shape, or are not finite.
        """
        self._run.send(targets)

    def joints(self) -> Vector:
        """Measured joint positions [rad], gripper openings [m], shape (14,)."""
        return np.array(self.moment.joints)

    def advance(self, duration: float) -> None:
        """Let time pass, as fast as physics is; the only method that does.

        Args:
            duration: A multiple of the timestep, 4 ms [s].

        Raises:
            VlaError: it is none.
        """
        steps = round(duration / TIMESTEP)
        if abs(steps * TIMESTEP - duration) > 1e-6:
            raise VlaError(f"the twin cannot advance by {duration} s; give a multiple of {TIMESTEP} s")
        for _ in range(steps):
            with self._stepping:
                self._run.step()
                self._steps += 1

    def solved(self) -> bool:
        """Whether the task has been solved since the last reset."""
        return self.moment.solved_after is not None

    def images(self) -> dict[str, Image]:
        """What every camera sees at this moment, by name.

        Raises:
            VlaError: OpenGL cannot be started here.
        """
        return self._drawing.submit(self._painter.images, self.moment).result()

    def close(self) -> None:
        """Free what was uploaded to OpenGL."""
        self._drawing.submit(self._painter.close).result()
        self._drawing.shutdown()
