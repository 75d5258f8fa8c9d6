"""How many demonstrations does RL need to begin with? None: it refuses. One: it should end where five hundred do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vla_rl_trainer.experiments.experiment import REFUSED, Finding, Verdict, findings, names_of
from vla_rl_trainer.experiments.lab import Lab
from vla_rl_trainer.experiments.record import Record, pool
from vla_rl_trainer.experiments.scale import Scale

WITHIN = 5.0
"""Points that one demonstration may end below the most."""


class ColdStart:
    """The base was pretrained on play, in which no task occurs."""

    name = "cold_start"
    claim = (
        "From no demonstration RL learns nothing and refuses to start; from one it ends within 5 points of where it "
        "ends from the most."
    )
    paper = (
        "0 demonstrations: 0 % before and after RL; 100: 7.3 to 25.4 %; 1000: 28.2 to 50.4 % (5 tasks of RoboTwin 2.0)."
    )
    differs = (
        "The paper's policy had seen a million robot episodes of other tasks, ours has seen play alone; how far "
        "one demonstration reaches depends on what the base can do already."
    )
    task = "pick_bottle"

    def conditions(self, scale: Scale) -> Sequence[str]:
        """See `Experiment`."""
        return [str(count) for count in scale.demo_counts]

    def run(self, condition: str, seed: int, lab: Lab) -> Iterator[Finding]:
        """See `Experiment`."""
        task = (self.task if self.task in lab.scale.tasks else lab.scale.tasks[0],)
        start = lab.sft(task, int(condition), seed, mirror=True)
        yield from findings("SFT", lab.evaluate(start, task))
        trained = lab.grpo(start, task, seed)
        yield from findings("RL", lab.evaluate(trained, task), trained.seconds)

    def judge(self, records: Sequence[Record]) -> Verdict:
        """See `Experiment`."""
        counts = sorted(names_of(records, "condition"), key=int)
        after = {count: pool(records, condition=count, stage="RL") for count in counts}
        before = {count: pool(records, condition=count, stage="SFT") for count in counts}
        refusals = {count for count in counts if pool(records, condition=count, stage=REFUSED).episodes}
        ends = {count: REFUSED if count in refusals else str(after[count]) for count in counts}
        told = "; ".join(f"{count}: {before[count]} -> {ends[count]}" for count in counts)
        most = counts[-1] if counts else "0"
        if "0" not in counts or "1" not in counts or most in ("0", "1") or not after[most].episodes:
            return Verdict("not decided", f"Demonstrations: SFT -> RL. {told}.")
        gap = 100.0 * (after[most].rate - after["1"].rate)
        refused = "0" in refusals and not after["0"].episodes
        text = (
            f"Demonstrations: SFT -> RL. {told}. One demonstration ends {gap:.1f} points below {most}; without any, RL "
            f"{'refused to start' if refused else 'did start'} from {before['0']}."
        )
        return Verdict("held" if refused and gap <= WITHIN else "did not hold", text)
