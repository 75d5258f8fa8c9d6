"""Starting a graph of the robot side as a process: trained policies are tried through the very nodes a robot runs.

The two packages never import each other; they meet in the command `python -m piper_bringup.start`.
"""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from vla_policy.errors import VlaError

_PATIENCE = 30.0
"""What a graph may take to end by itself once it was told to [s]: every node leaves its bus in order."""


def has_ros() -> bool:
    """Whether the nodes can run here: rclpy comes from PyPI for x86_64 only, elsewhere from a ROS installation."""
    return importlib.util.find_spec("rclpy") is not None


def run_graph(name: str, arguments: dict[str, object], time_limit: float, log: Path) -> None:
    """Run a graph until it ends by itself.

    Args:
        name: Of the graph (`python -m piper_bringup.start` lists them).
        arguments: Its arguments.
        time_limit: After which it is ended [s].
        log: Gets what the nodes say.

    Raises:
        VlaError: it failed or took too long; the message shows its last lines.
    """
    words = [f"{key}:={_text(value)}" for key, value in arguments.items()]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as output:
        command = [sys.executable, "-m", "piper_bringup.start", name, *words]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            code = process.wait(time_limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(_PATIENCE)
    if code != 0:
        last = "\n".join(log.read_text(encoding="utf-8").splitlines()[-8:])
        what = f"took longer than {time_limit:.0f} s" if code is None else f"ended with code {code}"
        raise VlaError(f"the graph {name} {what}; all it said is in {log}:\n{last}")


def run_trials(arguments: dict[str, object], num_trials: int, out: Path, seconds_each: float) -> dict[str, Any]:
    """Run trials of a policy through the graph; returns the summary of all trials in `out`.

    Args:
        arguments: Of the graph `evaluate`, less those below.
        num_trials: Worlds of the evaluation split, from seed 0 on unless `arguments` say otherwise.
        out: Run folder; trials that are there already are not run again.
        seconds_each: Longest time of a trial with its reset [s].

    Raises:
        VlaError: as `run_graph`.
    """
    told = {**arguments, "num_trials": num_trials, "out": out}
    column = "emulated" if arguments.get("emulate") else arguments.get("where", "sim")
    run_graph("evaluate", told, 60.0 + num_trials * seconds_each, out / f"graph_{column}.log")
    return json.loads((out / "summary.json").read_text(encoding="utf-8"))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
