"""Runs trials of the policy in the graph and keeps their outcomes; ends when all are done.

    python -m vla_rl_trainer.ros.evaluator_node --ros-args -p policy:=rl -p num_trials:=20

The same `out` gathers several policies and columns: run it once for each, the summary and the page show all of them.
"""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Literal

import rclpy
from rclpy.node import Node

from piper_twin.robot import CONTROL_PERIOD
from piper_twin.tasks import find_task
from vla_policy.errors import VlaError
from vla_policy.ros.parameters import declare
from vla_policy.ros.service_calls import ServiceCalls
from vla_policy.ros.spin import run_node
from vla_rl_trainer.config_checks import require_at_least
from vla_rl_trainer.ros.stages import OperatorStage, RecordedStage, TwinStage
from vla_rl_trainer.trial_report import write_results
from vla_rl_trainer.trials import Planned, Stage, TrialLog, conduct


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluatorConfig:
    """Which trials."""

    out: Path = Path("runs/evaluate_graph")
    """Run folder; what is there already is not run again."""
    policy: str = "policy"
    """What the policy is called in the table; each checkpoint needs a name of its own."""
    column: Literal["sim", "emulated", "real"] = "sim"
    """Where this is: sim and emulated worlds judge themselves, on the real robot the operator does."""
    tasks: tuple[str, ...] = ("click_bell",)
    num_trials: int = 20
    """Of each task."""
    first_seed: int = 0
    """The worlds are the seeds from here on, of the evaluation split, or of the demonstrations' when recording."""
    record: bool = False
    """Let the recorder make a bag of every trial."""
    time_limit: float = 0.0
    """Of a trial [s]; 0: three times the task's horizon, because here a policy's thinking takes time, too."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        require_at_least(self, 1, "num_trials")
        require_at_least(self, 0, "first_seed", "time_limit")
        for task in self.tasks:
            find_task(task)

    def planned(self) -> list[Planned]:
        """All trials, task by task."""
        seeds = range(self.first_seed, self.first_seed + self.num_trials)
        return [
            Planned(column=self.column, policy=self.policy, task=task, seed=seed)
            for task in self.tasks
            for seed in seeds
        ]

    def limit(self) -> float:
        """Time limit of a trial [s]."""
        return self.time_limit or 3.0 * CONTROL_PERIOD * max(find_task(task).horizon for task in self.tasks)


class EvaluatorNode(Node):
    """Conducts the trials on a thread of its own."""

    def __init__(self) -> None:
        super().__init__("evaluator")
        self._config = declare(self, EvaluatorConfig)
        calls = ServiceCalls(self)
        record = self._config.record
        twin = TwinStage(calls, "demonstration" if record else "evaluation")
        stage: Stage = OperatorStage(self, calls) if self._config.column == "real" else twin
        self._stage = RecordedStage(stage, calls) if record else stage
        self.problem: str | None = None
        self._thread = threading.Thread(target=self._conduct, daemon=True)
        self._thread.start()

    def _conduct(self) -> None:
        config = self._config
        log = TrialLog(config.out / "trials.jsonl")
        planned = config.planned()
        try:
            for trial in conduct(self._stage, planned, log, config.limit()):
                left = len(log.remaining(planned))
                outcome = "success" if trial.success else "failure"
                self.get_logger().info(f"{trial.task} {trial.seed}: {outcome} in {trial.seconds:.1f} s, {left} to go")
            self.get_logger().info(write_results(config.out, log.read()))
        except VlaError as error:
            self.problem = str(error)
            self.get_logger().error(self.problem)
        finally:
            rclpy.shutdown()


def main() -> int:
    """Run the node; the exit code is 1 when trials could not be run."""
    made: list[EvaluatorNode] = []

    def make() -> Node:
        made.append(EvaluatorNode())
        return made[0]

    return run_node(make) or int(bool(made and made[0].problem))


if __name__ == "__main__":
    raise SystemExit(main())
