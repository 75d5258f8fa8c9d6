"""Attack the control loop with bad chunks and measure what it sends.

    make fuzz-guard        # or: python -m piper_bringup.fuzz --num-chunks 1000000 --out runs/fuzz-guard

Every block of chunks is played by the control loop itself on simulated time, with stops, releases, faults, lost torque
and late ticks in between. What is sent is then measured by `stream_check`, which shares nothing with the guard but the
robot's facts. `summary.json` counts chunks and violations; a violation names the block that reproduces it.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tyro

from piper_bringup.control.command_stream import AVERAGED
from piper_bringup.control.faults import Fault
from piper_bringup.control.loop import PERIOD, ControlLoop
from piper_bringup.control.states import Array, State, Tick
from piper_bringup.drivers.fake import FakeDriver
from piper_bringup.fuzz.attack import Attacker
from piper_bringup.fuzz.stream_check import StreamCheck
from piper_twin.clearance import GuardConfig
from piper_twin.exit_codes import exit_after
from piper_twin.robot import ARMS, DUAL_PIPER, HOME
from vla_policy.errors import VlaError
from vla_policy.types import ActionChunk

BLOCK = 250
"""Chunks a robot is attacked with; each robot is a new one."""
GAPS = (0, 1, 1, 1, 2, 2, 3, 5, 12)
"""Ticks from one chunk to the next."""
MESSAGE_SHARE = 0.1
"""Of the chunks that come as messages, where ROS is installed; building one takes longer than judging it."""
MAX_EXAMPLES = 20

Door = Callable[[ActionChunk, np.random.Generator], "ActionChunk | str"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FuzzConfig:
    """How much, and where to."""

    num_chunks: int = 1_000_000
    """Chunks in all."""
    seed: int = 0
    """The same seed attacks in the same way."""
    out: Path = Path("runs/fuzz-guard")
    """Folder for summary.json."""
    workers: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    """Processes."""

    def __post_init__(self) -> None:
        """Refuse to do nothing."""
        if self.num_chunks < 1 or self.workers < 1:
            raise VlaError("num_chunks and workers must be at least 1")


@dataclasses.dataclass(slots=True)
class Outcome:
    """Of one block or of many."""

    chunks: int = 0
    accepted: int = 0
    commands: int = 0
    violations: int = 0
    examples: list[str] = dataclasses.field(default_factory=list[str])
    kinds: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    refusals: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    largest: dict[str, float] = dataclasses.field(default_factory=dict[str, float])
    """Share of the limit that was reached."""

    def add(self, other: Outcome) -> None:
        """Count another one in."""
        for name in ("chunks", "accepted", "commands", "violations"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.examples = (self.examples + other.examples)[:MAX_EXAMPLES]
        self.kinds = dict(collections.Counter(self.kinds) + collections.Counter(other.kinds))
        self.refusals = dict(collections.Counter(self.refusals) + collections.Counter(other.refusals))
        for name, share in other.largest.items():
            self.largest[name] = max(self.largest.get(name, 0.0), share)


class Motors(FakeDriver):
    """Keeps what it is sent."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Nothing was sent yet."""
        super().__init__(DUAL_PIPER, clock)
        self.sent: list[Array] = []

    def write(self, command: npt.NDArray[np.floating[Any]]) -> None:
        """Keep it."""
        self.sent.append(np.array(command, np.float64))
        super().write(command)


class Victim:
    """A robot on simulated time, and every stream of commands that left it."""

    def __init__(self, rng: np.random.Generator) -> None:
        """At home, without torque."""
        self.now, self._rng = 0.0, rng
        self.driver = Motors(clock=lambda: self.now)
        self.loop = ControlLoop(self.driver, DUAL_PIPER)
        self.streams: list[list[Array]] = []
        self.position: Array = np.tile(HOME, len(ARMS))
        self._before = State.DISABLED

    def turn(self, count: int = 1) -> None:
        """Let ticks pass, some of them late."""
        for _ in range(count):
            late = int(self._rng.integers(1, 40)) if self._rng.random() < 0.005 else 1
            self.now += late * PERIOD
            self._keep(self.loop.tick(self.now))

    def _keep(self, tick: Tick) -> None:
        """A stream begins when the robot is enabled: before, joints have no torque and commands no speed."""
        if tick.state is not State.DISABLED and self.driver.sent:
            if self._before is State.DISABLED or not self.streams:
                self.streams.append([])
            self.streams[-1] += self.driver.sent
            self.position = self.driver.sent[-1]
        self.driver.sent.clear()
        self._before = tick.state

    def trouble(self) -> None:
        """Something beside the chunk: the operator, or a fault that comes or goes."""
        draw = self._rng.random()
        self.driver.injected = [] if draw < 0.2 else self.driver.injected
        if draw < 0.005:
            self.loop.request_stop("fuzz")
        elif draw < 0.01:
            self.driver.injected = [Fault(str(self._rng.choice(("collision", "bus_silent", "feedback_lost"))), "fuzz")]
        elif draw < 0.012:
            self.driver.disable()
        elif self._before is State.HELD and draw < 0.4:
            self.loop.request_release()
        elif self._before is State.DISABLED:
            self.loop.request_enable()


def play_block(seed: int, block: int, num_chunks: int) -> Outcome:
    """Attack one robot, and measure."""
    rng = np.random.default_rng((seed, block))
    victim, attacker, door = Victim(rng), Attacker(DUAL_PIPER, rng), _message_door()
    outcome = Outcome(chunks=num_chunks)
    victim.turn()
    victim.loop.request_enable()
    victim.turn(3)
    for _ in range(num_chunks):
        kind, chunk = attacker.chunk(victim.position, victim.now)
        outcome.kinds[kind] = outcome.kinds.get(kind, 0) + 1
        arrived = door(chunk, rng) if door and rng.random() < MESSAGE_SHARE else chunk
        if isinstance(arrived, str):
            victim.loop.refuse(arrived, victim.now)
        else:
            victim.loop.submit(arrived, victim.now)
        victim.trouble()
        victim.turn(int(rng.choice(GAPS)))
    victim.turn(40)
    _measure(victim, outcome, f"seed {seed}, block {block}")
    return outcome


def _measure(victim: Victim, outcome: Outcome, where: str) -> None:
    check = _check()
    for stream in victim.streams:
        commands = np.array(stream)
        found = check.violations(commands)
        outcome.commands += len(commands)
        outcome.violations += len(found)
        outcome.examples += [f"{where}: {text}" for text in found[:3]]
        for name, share in check.shares(commands).items():
            outcome.largest[name] = max(outcome.largest.get(name, 0.0), share)
    outcome.accepted = victim.loop.num_chunks
    outcome.refusals = victim.loop.refusals


@cache
def _check() -> StreamCheck:
    max_acceleration = np.array([joint.max_acceleration for joint in DUAL_PIPER.joints])
    return StreamCheck(DUAL_PIPER, GuardConfig(), PERIOD, 2.0 * max_acceleration / (AVERAGED * PERIOD))


@cache
def _message_door() -> Door | None:
    """The way through ROS messages, where ROS is installed."""
    try:
        module: Any = importlib.import_module("piper_bringup.ros.message_door")
    except ImportError:
        return None
    return module.through_message


def fuzz(config: FuzzConfig) -> int:
    """Attack, and write the summary; 1 if anything was violated."""
    begin, total = time.monotonic(), Outcome()
    num_blocks = -(-config.num_chunks // BLOCK)
    with ProcessPoolExecutor(config.workers) as pool:
        for done, outcome in enumerate(_outcomes(pool, config, num_blocks), start=1):
            total.add(outcome)
            if done % 40 == 0 or done == num_blocks:
                print(
                    f"{total.chunks} chunks, {total.violations} violations, {time.monotonic() - begin:.0f} s",
                    flush=True,
                )
    summary = dataclasses.asdict(total) | {
        "seed": config.seed,
        "through_messages": _message_door() is not None,
        "seconds": round(time.monotonic() - begin, 1),
        "workers": config.workers,
    }
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return 1 if total.violations else 0


def _outcomes(pool: ProcessPoolExecutor, config: FuzzConfig, num_blocks: int) -> Iterator[Outcome]:
    sizes = [min(BLOCK, config.num_chunks - block * BLOCK) for block in range(num_blocks)]
    return pool.map(play_block, [config.seed] * num_blocks, range(num_blocks), sizes)


if __name__ == "__main__":
    exit_after(lambda: fuzz(tyro.cli(FuzzConfig)))
