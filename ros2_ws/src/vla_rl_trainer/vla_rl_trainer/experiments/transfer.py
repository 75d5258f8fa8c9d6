"""How training worlds must differ for a policy to stand a robot that is none of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from vla_rl_trainer.experiments.experiment import Finding, Verdict, findings, names_of
from vla_rl_trainer.experiments.lab import Lab, Trained
from vla_rl_trainer.experiments.record import Record, pool
from vla_rl_trainer.experiments.scale import FOUR_REAL_TASKS, Scale
from vla_rl_trainer.robot_graph import has_ros, run_trials

SHIFTED = "shifted"
"""The randomisation that stands for a real robot; see `piper_twin.randomization`."""
ROS = "through ROS, emulated arms"
NUM_TRIALS = 20
_SECONDS_A_TRIAL = 60.0


class Transfer:
    """The same worlds for all: paired seeds."""

    name = "transfer"
    claim = "On a shifted twin RL keeps its lead over SFT, and wider training worlds lose less there."
    paper = "Two real Pipers, four tasks: 17.5 % after SFT, 38.5 % after RL (Table 6)."
    differs = "A shifted twin is no robot: it has this simulator's contacts and pictures, with other numbers in them."

    def conditions(self, scale: Scale) -> Sequence[str]:
        """See `Experiment`."""
        del scale
        return ["off", "standard", "wide"]

    def run(self, condition: str, seed: int, lab: Lab) -> Iterator[Finding]:
        """See `Experiment`."""
        tasks = tuple(task for task in FOUR_REAL_TASKS if task in lab.scale.tasks)
        start = lab.sft(tasks, lab.scale.num_demos, seed, randomization=condition, mirror=True)
        trained = lab.grpo(start, tasks, seed, lambda config: dataclasses.replace(config, randomization=condition))
        for stage, policy in (("SFT", start), ("RL", trained)):
            for worlds in (condition, SHIFTED):
                name = SHIFTED if worlds == SHIFTED else "as in training"
                yield from findings(f"{stage}, {name}", lab.evaluate(policy, tasks, worlds), policy.seconds)
            if has_ros() and lab.scale.min_seeds > 1:
                yield from _through_ros(stage, policy, tasks, lab)

    def judge(self, records: Sequence[Record]) -> Verdict:
        """See `Experiment`."""
        levels = names_of(records, "condition")
        parts = {
            (level, stage): pool(records, condition=level, stage=f"{stage}, {SHIFTED}")
            for level in levels
            for stage in ("SFT", "RL")
        }
        if not levels or not all(part.episodes for part in parts.values()) or len(levels) < 2:
            return Verdict("not decided", "Not all training worlds were tried on the shifted twin yet.")
        told = "; ".join(f"{level}: {parts[level, 'SFT']} -> {parts[level, 'RL']}" for level in levels)
        leads = all(parts[level, "RL"].rate >= parts[level, "SFT"].rate for level in levels)
        grows = parts[levels[-1], "RL"].rate >= parts[levels[0], "RL"].rate
        ros = pool(records, stage=f"RL, {ROS}")
        text = f"On the shifted twin, SFT -> RL: {told}." + (f" {ROS}: {ros}." if ros.episodes else "")
        return Verdict("held" if leads and grows else "did not hold", text)


def _through_ros(stage: str, policy: Trained, tasks: Sequence[str], lab: Lab) -> Iterator[Finding]:
    """Trials of the very nodes a robot runs, its arms emulated."""
    for task in tasks:
        out = lab.folder("ros", checkpoint=lab.inside(policy.folder), task=task)
        given = {"checkpoint": policy.folder, "policy": stage.lower(), "task": task, "where": "real", "emulate": True}
        told = run_trials(given, NUM_TRIALS, out, _SECONDS_A_TRIAL)["policies"][stage.lower()]["emulated"]
        yield Finding(
            stage=f"{stage}, {ROS}",
            task=task,
            successes=told["num_successes"],
            episodes=told["num_episodes"],
            seconds=policy.seconds,
            outcomes=out / "summary.json",
        )
