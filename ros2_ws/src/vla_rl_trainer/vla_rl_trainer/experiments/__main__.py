"""Run an experiment: conditions seed by seed, then the table, the plot and the verdict.

    python -m vla_rl_trainer.experiments sft_vs_rl --scale laptop --tasks click_bell
    python -m vla_rl_trainer.experiments cold_start --backend warp --publish docs/results.json

writes runs/experiments/NAME. Stop it whenever you like; the same command goes on, and conditions share what they have
in common. `--publish` adds the numbers to those that docs/results.html is made of (`experiments.publish`).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import tyro

from piper_twin.tasks import find_task
from piper_twin.wilson import wilson_interval
from vla_policy.errors import VlaError
from vla_policy.provenance import provenance
from vla_rl_trainer.command import find, run_command
from vla_rl_trainer.disk import write_atomically
from vla_rl_trainer.experiments.choose import EXPERIMENTS
from vla_rl_trainer.experiments.experiment import REFUSED, Experiment, Finding
from vla_rl_trainer.experiments.lab import Lab, Machine
from vla_rl_trainer.experiments.record import Record, merged, read_records, write_records
from vla_rl_trainer.experiments.scale import SCALES, Scale
from vla_rl_trainer.experiments.writing import write_all
from vla_rl_trainer.grpo_trainer import NothingToLearn


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentsConfig:
    """One experiment."""

    name: tyro.conf.Positional[str]
    """sft_vs_rl, cold_start, ablations, pushcut, generalisation, transfer or exploration_cost."""
    out: Path = Path("runs/experiments")
    """Holds a folder of each experiment."""
    scale: Literal["toy", "laptop", "full"] = "full"
    """How large: seconds, an hour or two of two cores, or half an hour of a GPU."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of demonstrations, training and sampling; evaluation worlds are always the same."""
    tasks: tuple[str, ...] = ()
    """Instead of the scale's own."""
    conditions: tuple[str, ...] = ()
    """Only these; all by default."""
    machine: tyro.conf.OmitArgPrefixes[Machine] = dataclasses.field(default_factory=Machine)
    publish: Path | None = None
    """JSON file that the numbers are added to, such as docs/results.json."""

    def __post_init__(self) -> None:
        """Refuse what decides nothing."""
        experiment = find(EXPERIMENTS, self.name, "experiment")
        for task in self.tasks:
            find_task(task)
        if len(set(self.seeds)) < self.sizes.min_seeds:
            raise VlaError(f"{len(set(self.seeds))} seeds decide nothing; give at least {self.sizes.min_seeds}")
        if min(self.seeds) < 0:
            raise VlaError("seeds count from 0")
        there = experiment.conditions(self.sizes)
        for condition in self.conditions:
            find(dict.fromkeys(there), condition, "condition")
        if self.publish is not None and self.scale == "toy":
            raise VlaError("numbers of the scale toy mean nothing; publish those of laptop or full")

    @property
    def sizes(self) -> Scale:
        """Of everything."""
        scale = SCALES[self.scale]
        return dataclasses.replace(scale, tasks=self.tasks) if self.tasks else scale


def run(config: ExperimentsConfig, experiment: Experiment, lab: Lab) -> list[Record]:
    """All records, those of an earlier run included; written after every condition and seed."""
    file = lab.out / "records.json"
    records = read_records(file)
    for condition in config.conditions or experiment.conditions(lab.scale):
        for seed in config.seeds:
            if _is_done(records, config.scale, condition, seed):
                continue
            print(f"{experiment.name}: {condition}, seed {seed}", file=sys.stderr, flush=True)
            told = _told(experiment, condition, seed, lab)
            found = [_recorded(one, config, condition, seed, lab) for one in told]
            records = merged(records, found)
            write_records(file, records)
    return [one for one in records if one.scale == config.scale]


def _told(experiment: Experiment, condition: str, seed: int, lab: Lab) -> Iterator[Finding]:
    """All findings of a condition; one more where RL refused, which ends this condition and no other."""
    task = ""
    try:
        for found in experiment.run(condition, seed, lab):
            task = found.task
            yield found
    except NothingToLearn as refusal:
        print(f"{condition}, seed {seed}: {refusal}", file=sys.stderr)
        yield Finding(stage=REFUSED, task=task, successes=1, episodes=1)


def _is_done(records: list[Record], scale: str, condition: str, seed: int) -> bool:
    return any(one.condition == condition and one.seed == seed and one.scale == scale for one in records)


def _recorded(found: Finding, config: ExperimentsConfig, condition: str, seed: int, lab: Lab) -> Record:
    told = provenance(seed)
    return Record(
        experiment=config.name,
        condition=condition,
        stage=found.stage,
        task=found.task,
        seed=seed,
        successes=found.successes,
        episodes=found.episodes,
        ci95=wilson_interval(found.successes, found.episodes),
        seconds=found.seconds,
        scale=config.scale,
        command=told["command"],
        commit=told["commit"],
        hardware=told["hardware"],
        outcomes=str(found.outcomes.relative_to(lab.out)) if found.outcomes else "",
    )


def _require_same_sizes(file: Path, config: ExperimentsConfig) -> None:
    """Refuse a folder whose numbers were measured with other sizes under the same name.

    Raises:
        VlaError: it is one.
    """
    sizes = json.loads(json.dumps(dataclasses.asdict(config.sizes)))
    known = json.loads(file.read_text()) if file.exists() else {}
    there = known.setdefault(config.scale, sizes)
    differing = sorted(name for name in sizes if there.get(name) != sizes[name])
    if differing:
        raise VlaError(f"{file.parent} was measured with another {', '.join(differing)}; choose another --out")
    write_atomically(file, json.dumps(known, indent=2) + "\n")


def main(config: ExperimentsConfig) -> int:
    """Run, write, and say whether the claim held; returns the exit code."""
    experiment = EXPERIMENTS[config.name]
    out = config.out / config.name
    out.mkdir(parents=True, exist_ok=True)
    _require_same_sizes(out / "sizes.json", config)
    records = run(config, experiment, Lab(out, config.sizes, config.machine))
    verdict = write_all(out, experiment, records, experiment.conditions(config.sizes))
    print(f"{experiment.claim}\n{verdict.held}: {verdict.text}\n{out / 'report.html'}")
    if config.publish is not None:
        write_records(config.publish, merged(read_records(config.publish), records))
    return 0


if __name__ == "__main__":
    run_command(main, ExperimentsConfig)
