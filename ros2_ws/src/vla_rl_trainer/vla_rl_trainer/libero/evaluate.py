"""Evaluate a checkpoint on LIBERO's suites by the published protocol.

    python -m vla_rl_trainer.libero.evaluate --checkpoint runs/libero/sft/final --suites libero_object

Every recorded initial state of the chosen split once, for each task. `summary.json`, `report.html` and the table on the
terminal give each task, each suite and all of them, with 95 % intervals, and say which states, renderer and assets it
was: images drawn without multisampling and reflections, or over stand-in meshes, are not those of published numbers.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vla_policy.checkpoint import weights_sha256
from vla_policy.config import Decoding
from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy
from vla_policy.provenance import provenance
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_above, require_at_least
from vla_rl_trainer.devices import pick_device
from vla_rl_trainer.envs.libero_env import LiberoVectorEnv
from vla_rl_trainer.evaluation import Evaluation, EvaluationConfig, evaluate_policy
from vla_rl_trainer.evaluation_blocks import origin_section, strategy_table, success_table
from vla_rl_trainer.libero.cache import Visuals, default_cache, read_task
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.libero.protocol import NUM_TRAIN_STATES, StateSplit
from vla_rl_trainer.libero.suites import HORIZONS, NUM_STATES, TaskName, tasks_of
from vla_rl_trainer.libero.worlds import LiberoConfig
from vla_rl_trainer.report import ReportData, Section, write_report
from vla_rl_trainer.run_folder import Run

MAX_SLOTS = 64
"""Worlds side by side."""
MAY_DIFFER = ("out", "num_workers", "cache")
"""Fields that change no outcome."""
PUBLISHED_SIZES = {224: 256}
"""Side of a policy's images [px], and the side at which the protocol draws them; others are drawn as they are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiberoEvaluateConfig:
    """Evaluation of one checkpoint."""

    checkpoint: Path
    """Policy folder."""
    out: Path = Path("runs/evaluate-libero")
    """Run folder; the same command replaces what it wrote there, another one is refused."""
    suites: tuple[str, ...] = tuple(HORIZONS)
    """Suites, or single tasks such as libero_object/3."""
    states: StateSplit = "held_out"
    """official: all 50 initial states, on which published policies were also trained; held_out: the last 20."""
    visuals: Visuals = "lean"
    """stock: images as the benchmark draws them, at a tenth of the speed."""
    max_episodes: int = NUM_STATES
    """Of each task; fewer than the split has is a sample, not the protocol."""
    decoding: Decoding | None = None
    """How the policy chooses among its bins; its own way by default."""
    temperature: float = 1.0
    """Of 'sample' and 'expectation'."""
    num_workers: int | None = None
    """Simulation processes; one a core by default."""
    cache: Path = dataclasses.field(default_factory=default_cache)
    """Folder of the compiled tasks."""

    def __post_init__(self) -> None:
        """Refuse what cannot be evaluated."""
        require_at_least(self, 1, "max_episodes")
        require_above(self, 0.0, "temperature")
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise VlaError("name at least one suite or task, and none twice")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task asked for."""
        names = [name for text in self.suites for name in (tasks_of(text) if "/" not in text else (text,))]
        return tuple(str(TaskName.parse(name)) for name in names)

    @property
    def num_episodes(self) -> int:
        """Of each task."""
        available = NUM_STATES if self.states == "official" else NUM_STATES - NUM_TRAIN_STATES
        return min(available, self.max_episodes)


def require_motions(policy: VlaPolicy) -> None:
    """Refuse a policy that would add its actions to the state: LIBERO's actions are motions already.

    Raises:
        VlaError: says how to make one that fits.
    """
    if policy.config.action_frame != "absolute":
        raise VlaError(
            "this policy adds its actions to the state, but LIBERO's actions are motions already; train one with "
            'action_frame="absolute"'
        )


def evaluate(config: LiberoEvaluateConfig, policy: VlaPolicy) -> Evaluation:
    """Run the policy from every initial state of the split."""
    require_motions(policy)
    size = policy.config.image_size
    worlds = LiberoConfig(
        states=config.states,
        visuals=config.visuals,
        image_size=size,
        render_size=PUBLISHED_SIZES.get(size, 0),
        fingers=policy.config.state_dim == LIBERO_PANDA.num_joints + 1,
        cache=config.cache,
    )
    num_slots = min(MAX_SLOTS, len(config.tasks) * config.num_episodes)
    with LiberoVectorEnv(num_slots, worlds, num_workers=config.num_workers) as env:
        env.compile_tasks(config.tasks)
        return evaluate_policy(env, policy, config.tasks, EvaluationConfig(num_episodes=config.num_episodes))


def of_suite(evaluation: Evaluation, suite: str) -> Evaluation:
    """The episodes of one suite."""
    return dataclasses.replace(
        evaluation,
        outcomes=tuple(one for one in evaluation.outcomes if TaskName.parse(one.task).suite == suite),
        dropped=tuple(task for task in evaluation.dropped if TaskName.parse(task).suite == suite),
    )


def summarise(config: LiberoEvaluateConfig, policy: VlaPolicy, evaluation: Evaluation, wall_s: float) -> dict[str, Any]:
    """The numbers for `summary.json`: over all episodes, of each suite, and of each task."""
    compiled = {task: read_task(config.cache, TaskName.parse(task)) for task in config.tasks}
    suites = dict.fromkeys(TaskName.parse(task).suite for task in config.tasks)
    return evaluation.summary() | {
        "checkpoint": str(config.checkpoint),
        "checkpoint_sha256": weights_sha256(config.checkpoint),
        "temperature": policy.temperature,
        "states": config.states,
        "is_whole_protocol": config.max_episodes >= config.num_episodes and len(config.tasks) % 10 == 0,
        "visuals": config.visuals,
        "assets": sorted({task.origin["assets"] for task in compiled.values()}),
        "suites": {suite: of_suite(evaluation, suite).summary() for suite in suites},
        "tasks": {
            name: evaluation.of_task(name).summary() | {"instruction": task.instruction}
            for name, task in compiled.items()
        },
        "wall_s": wall_s,
        "control_steps_per_s": sum(one.num_steps for one in evaluation.outcomes) / wall_s,
        **{name: value for name, value in provenance(0).items() if name != "seed"},
    }


def what_it_was(summary: dict[str, Any]) -> str:
    """States, renderer and assets in a line: numbers of different ones do not compare."""
    states = "official states (training may have seen them)" if summary["states"] == "official" else "held-out states"
    drawn = f"{summary['visuals']} images, assets {', '.join(summary['assets'])}"
    return f"{summary['num_episodes']} episodes from {states}, {drawn}"


def write_page(path: Path, config: LiberoEvaluateConfig, summary: dict[str, Any], evaluation: Evaluation) -> None:
    """Write the report page."""
    suites = [(suite, of_suite(evaluation, suite)) for suite in summary["suites"]]
    tasks = [
        (f"{name}: {numbers['instruction']}", evaluation.of_task(name)) for name, numbers in summary["tasks"].items()
    ]
    data = ReportData(
        title=f"LIBERO: {summary['success_rate']:.1%} success",
        subtitle=what_it_was(summary),
        sections=[
            Section("Suites", [success_table("suite", suites)]),
            Section("Tasks", [success_table("task", tasks)]),
            Section("What was seen to happen in successes", [strategy_table("task", tasks)]),
            origin_section(summary, config),
        ],
    )
    write_report(path, data)


def print_table(summary: dict[str, Any], report: Path) -> None:
    """The result, for a terminal."""
    table = Table(title=what_it_was(summary))
    for column in ("", "success", "95 %", "episodes", "dropped"):
        table.add_column(column, justify="left" if not column else "right")
    for name, numbers in (*summary["tasks"].items(), *summary["suites"].items(), ("all", summary)):
        low, high = numbers["ci95"]
        label = f"{name}  {numbers['instruction']}" if "instruction" in numbers else name
        rate, interval = f"{numbers['success_rate']:.1%}", f"{low:.1%} .. {high:.1%}"
        table.add_row(label, rate, interval, str(numbers["num_episodes"]), str(numbers["num_dropped"]))
    console = Console()
    console.print(table)
    console.print(f"{summary['wall_s']:.0f} s, {summary['control_steps_per_s']:.0f} control steps/s; {report}")


def main(config: LiberoEvaluateConfig) -> int:
    """Evaluate; returns the exit code."""
    policy = VlaPolicy.load(config.checkpoint, pick_device(), LIBERO_PANDA, config.decoding, config.temperature)
    require_motions(policy)
    with Run.open_or_create(config.out, dataclasses.asdict(config), MAY_DIFFER) as run:
        started = time.perf_counter()
        evaluation = evaluate(config, policy)
        summary = summarise(config, policy, evaluation, time.perf_counter() - started)
        Evaluation.write(run.path / "evaluation.json", {evaluation.decoding: evaluation})
        write_page(run.report_path, config, summary, evaluation)
        run.write_summary(summary)
    print_table(summary, run.report_path)
    if not evaluation.outcomes:
        print("every episode was lost to a broken simulation", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    run_command(main, LiberoEvaluateConfig)
