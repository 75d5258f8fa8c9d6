"""Which benchmark it is: tasks say so by their names, data sets by their robot."""

from __future__ import annotations

from collections.abc import Sequence

from piper_twin.mjwarp.device import WarpConfig
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_rl_trainer.benchmarks.benchmark import Benchmark
from vla_rl_trainer.benchmarks.libero import LiberoBenchmark, LiberoOptions
from vla_rl_trainer.benchmarks.twin import TwinBenchmark
from vla_rl_trainer.libero.suites import is_libero


def find_benchmark(
    tasks: Sequence[str],
    *,
    randomization: str = "off",
    libero: LiberoOptions | None = None,
    backend: str = "mujoco",
    warp: WarpConfig | None = None,
) -> Benchmark:
    """The benchmark of these tasks.

    Args:
        tasks: Names such as click_bell, or libero_object/3, or whole suites.
        randomization: Of the twin.
        libero: Of LIBERO.
        backend: Of the twin.
        warp: How the backend warp runs.

    Raises:
        VlaError: there is no task, a task does not exist or comes twice, tasks are of two benchmarks, or an option
            belongs to the other one.
    """
    if not tasks:
        raise VlaError("no task was given; name at least one with --tasks")
    theirs = [task for task in tasks if is_libero(task)]
    if theirs and len(theirs) < len(tasks):
        mine = next(task for task in tasks if task not in theirs)
        raise VlaError(f"{mine} is a task of the twin, {theirs[0]} of LIBERO, another robot; train them in two runs")
    if theirs and randomization != "off":
        raise VlaError(f"randomization {randomization!r} is the twin's; leave it out with LIBERO's tasks")
    if theirs and backend != "mujoco":
        raise VlaError(f"backend {backend!r} is the twin's; leave it out with LIBERO's tasks")
    if not theirs and libero not in (None, LiberoOptions()):
        raise VlaError("options of libero were given, but no task of LIBERO; name one, such as libero_object/3")
    found = LiberoBenchmark(tasks, libero) if theirs else TwinBenchmark(tasks, randomization, backend, warp)
    if len(set(found.tasks)) < len(found.tasks):
        raise VlaError("a task was given twice; name each once")
    return found


def benchmark_of(robot: Embodiment | None) -> Benchmark:
    """The benchmark with this robot, without tasks; the twin where the robot is unknown, which then refuses it."""
    return LiberoBenchmark() if robot is not None and robot.name == LiberoBenchmark.embodiment.name else TwinBenchmark()
