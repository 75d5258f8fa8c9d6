"""What our improvements of the collection and the learner save on the way to the same success."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from vla_rl_trainer.experiments.ablations import without_allocation
from vla_rl_trainer.experiments.experiment import Finding, Verdict, findings, names_of
from vla_rl_trainer.experiments.lab import Change, Lab
from vla_rl_trainer.experiments.record import Record, pool
from vla_rl_trainer.experiments.scale import Scale
from vla_rl_trainer.train_grpo import TrainGrpoConfig

OURS = "ours"
TARGET = 0.6
"""Success of the sampled episodes at which the clock stops."""


def without_stop(config: TrainGrpoConfig) -> TrainGrpoConfig:
    """Every group is run whole, and surplus thrown away."""
    return dataclasses.replace(config, group=dataclasses.replace(config.group, stop_decided=False, carry_surplus=False))


def with_stop(config: TrainGrpoConfig) -> TrainGrpoConfig:
    """Groups whose first half agrees are stopped, surplus opens the next step."""
    return dataclasses.replace(config, group=dataclasses.replace(config.group, stop_decided=True, carry_surplus=True))


def half_of_the_chunks(config: TrainGrpoConfig) -> TrainGrpoConfig:
    """Half of each trajectory's chunks in the gradient, weighted up."""
    return dataclasses.replace(config, learner=dataclasses.replace(config.learner, chunk_fraction=0.5))


def second_forward(config: TrainGrpoConfig) -> TrainGrpoConfig:
    """Old log-probabilities are computed once more before the update, as in the published code."""
    return dataclasses.replace(config, learner=dataclasses.replace(config.learner, reuse_log_probs=False))


CHANGES: Mapping[str, Change] = {
    OURS: with_stop,
    "no task allocation": lambda config: without_allocation(with_stop(config)),
    "no early stop, no surplus": without_stop,
    "half of the chunks learned from": lambda config: half_of_the_chunks(with_stop(config)),
    "log-probabilities computed twice": lambda config: second_forward(with_stop(config)),
}


class ExplorationCost:
    """Seconds of training until the same share of sampled episodes succeeds."""

    name = "exploration_cost"
    claim = "Early stop, surplus, allocation and reused log-probabilities each reach the same success in less time."
    paper = "Not reported; its authors name 45 minutes a step on eight A800 (issue 8)."
    differs = (
        "What is saved depends on where the time goes: the rollout's share is large on two cores, the update's on "
        "a GPU, and little is left of either to save once most episodes end early by success."
    )

    def conditions(self, scale: Scale) -> Sequence[str]:
        """See `Experiment`."""
        del scale
        return list(CHANGES)

    def run(self, condition: str, seed: int, lab: Lab) -> Iterator[Finding]:
        """See `Experiment`."""
        tasks = lab.scale.tasks[:2]
        start = lab.sft(tasks, lab.scale.num_demos, seed, mirror=True)

        def change(config: TrainGrpoConfig) -> TrainGrpoConfig:
            return dataclasses.replace(CHANGES[condition](config), target_success=TARGET)

        trained = lab.grpo(start, tasks, seed, change)
        yield from findings("RL", lab.evaluate(trained, tasks), trained.seconds)

    def judge(self, records: Sequence[Record]) -> Verdict:
        """See `Experiment`."""
        names = names_of(records, "condition")
        if set(names) < set(CHANGES):
            return Verdict("not decided", f"Measured so far: {', '.join(names) or 'nothing'}.")
        spent = {name: _mean_seconds(records, name) for name in names}
        told = "; ".join(f"{name} {spent[name]:.0f} s to {pool(records, condition=name)}" for name in names)
        cheaper = [name for name in names if name != OURS and spent[name] < spent[OURS]]
        text = f"{told}. Cheaper than ours: {', '.join(cheaper) or 'none'}."
        return Verdict("did not hold" if cheaper else "held", text)


def _mean_seconds(records: Sequence[Record], condition: str) -> float:
    """Over seeds; every task of a seed tells the same training."""
    by_seed = {one.seed: one.seconds for one in records if one.condition == condition}
    return sum(by_seed.values()) / max(1, len(by_seed))
