"""Control steps a second of the benchmark's own environment, in a process of its own; see `bench`.

python -m vla_rl_trainer.libero.stock_speed libero_object/0 128 10
"""

from __future__ import annotations

import sys
import time

import numpy as np

from vla_rl_trainer.libero import stock
from vla_rl_trainer.libero.suites import TaskName


def measure(task: TaskName, size: int, seconds: float) -> float:
    """Random actions and two images of `size` px a step, as its evaluation loop has it; start-up is left out."""
    environment = stock.make_environment(task, images=size)
    stock.reset(environment)
    _, _, initial = stock.benchmark_task(task)
    environment.set_init_state(initial[0])
    rng = np.random.default_rng(0)
    environment.env.step(rng.uniform(-1.0, 1.0, 7))
    started, steps = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < seconds:
        environment.env.step(rng.uniform(-1.0, 1.0, 7))
        steps += 1
    return steps / spent


if __name__ == "__main__":
    print(measure(TaskName.parse(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
