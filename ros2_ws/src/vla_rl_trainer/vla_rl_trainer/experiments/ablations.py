"""What the exploration tricks of the paper, and our task allocation, each contribute."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from vla_rl_trainer.experiments.experiment import Finding, Verdict, apart, findings, names_of
from vla_rl_trainer.experiments.lab import Change, Lab
from vla_rl_trainer.experiments.record import Record, pool
from vla_rl_trainer.experiments.scale import Scale
from vla_rl_trainer.train_grpo import TrainGrpoConfig

ALL_ON, ALL_OFF = "all on", "all off"


def without_filter(config: TrainGrpoConfig) -> TrainGrpoConfig:
    """Groups whose members agree reach the learner too, where they teach nothing."""
    group = dataclasses.replace(config.group, lower_bound=0.0, upper_bound=1.0, stop_decided=False)
    return dataclasses.replace(config, group=group)


def without_allocation(config: TrainGrpoConfig) -> TrainGrpoConfig:
    """All tasks alike."""
    return dataclasses.replace(config, uniform_tasks=True)


def clipped_at(low: float, high: float) -> Change:
    """Another range of the ratio."""

    def change(config: TrainGrpoConfig) -> TrainGrpoConfig:
        loss = dataclasses.replace(config.learner.loss, clip_low=low, clip_high=high)
        return dataclasses.replace(config, learner=dataclasses.replace(config.learner, loss=loss))

    return change


def at_temperature_1(config: TrainGrpoConfig) -> TrainGrpoConfig:
    """Sampling as sharp as the policy is."""
    return dataclasses.replace(config, temperature=1.0)


def all_off(config: TrainGrpoConfig) -> TrainGrpoConfig:
    """GRPO without any of it."""
    return at_temperature_1(clipped_at(0.2, 0.2)(without_allocation(without_filter(config))))


CHANGES: Mapping[str, Change] = {
    ALL_ON: lambda config: config,
    "no filter of uniform groups": without_filter,
    "no task allocation": without_allocation,
    "clip 0.8 .. 1.2": clipped_at(0.2, 0.2),
    "clip 0.2 .. 1.28": clipped_at(0.8, 0.28),
    "temperature 1.0": at_temperature_1,
    ALL_OFF: all_off,
}
"""The paper's tricks are dynamic sampling, clip-higher and temperature; 0.2 is the other reading of its lower bound."""


class Ablations:
    """One thing less at a time, from one and the same fine-tuned policy."""

    name = "ablations"
    claim = "Dynamic sampling, clip-higher and a temperature of 1.6 each raise what RL reaches in the same steps."
    paper = "10 to 15 points each, LIBERO-Long, about 300 steps (Figure 3)."
    differs = (
        "What a trick is worth shows where success is scarce: with one task, a small policy and a hundredth of "
        "the paper's episodes, most groups may disagree from the start, and a filter, a wider clip and more heat "
        "have less to add."
    )

    def conditions(self, scale: Scale) -> Sequence[str]:
        """See `Experiment`."""
        del scale
        return list(CHANGES)

    def run(self, condition: str, seed: int, lab: Lab) -> Iterator[Finding]:
        """See `Experiment`."""
        tasks = lab.scale.tasks[:3]
        start = lab.sft(tasks, lab.scale.num_demos, seed, mirror=True)
        yield from findings("SFT", lab.evaluate(start, tasks))
        trained = lab.grpo(start, tasks, seed, CHANGES[condition])
        yield from findings("RL", lab.evaluate(trained, tasks), trained.seconds)

    def judge(self, records: Sequence[Record]) -> Verdict:
        """See `Experiment`."""
        names = [name for name in names_of(records, "condition") if pool(records, condition=name, stage="RL").episodes]
        if ALL_ON not in names or len(names) < len(CHANGES):
            return Verdict("not decided", f"Measured so far: {', '.join(names) or 'nothing'}.")
        everything = pool(records, condition=ALL_ON, stage="RL")
        singles = [name for name in names if name not in (ALL_ON, ALL_OFF)]
        parts = {name: pool(records, condition=name, stage="RL") for name in names}
        told = "; ".join(f"{name} {parts[name]}" for name in names)
        worse = [name for name in singles if parts[name].rate < everything.rate and apart(parts[name], everything)]
        text = f"{told}. Clearly below everything: {', '.join(worse) or 'none'}."
        return Verdict("held" if len(worse) == len(singles) else "did not hold", text)
