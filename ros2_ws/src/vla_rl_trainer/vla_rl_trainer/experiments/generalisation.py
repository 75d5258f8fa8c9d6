"""What a policy can do of what it was not trained on: the tenth task, other words, other objects, other tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vla_rl_trainer.experiments.experiment import Finding, Verdict, findings, names_of
from vla_rl_trainer.experiments.lab import Lab
from vla_rl_trainer.experiments.record import Record, pool
from vla_rl_trainer.experiments.scale import Scale

UNSEEN_TASK, SEEN = "unseen task", "as in training"
LEVELS = {SEEN: "off", "unseen objects": "new_objects", "unseen backgrounds": "new_backgrounds"}
"""Worlds to the randomisation they are drawn with."""
WORDS = "unseen instructions"


class Generalisation:
    """Each condition leaves one task out of training."""

    name = "generalisation"
    claim = (
        "On a task left out of training, and in other worlds, the policy after RL does at least as well as after SFT."
    )
    paper = "LIBERO, nine tasks seen, one not: SFT falls to 0 on most, RL gains 5 to 36 points."
    differs = (
        "Our base has seen play and its few words; the paper's had language and pictures of the web before its "
        "robot episodes, so that a task left out is nearer to what it knows."
    )

    def conditions(self, scale: Scale) -> Sequence[str]:
        """See `Experiment`."""
        return [f"without {task}" for task in scale.tasks[:10]]

    def run(self, condition: str, seed: int, lab: Lab) -> Iterator[Finding]:
        """See `Experiment`."""
        left_out = condition.removeprefix("without ")
        tasks = tuple(task for task in lab.scale.tasks[:10] if task != left_out) or (left_out,)
        start = lab.sft(tasks, lab.scale.num_demos, seed, mirror=True)
        trained = lab.grpo(start, tasks, seed)
        for stage, policy in (("SFT", start), ("RL", trained)):
            yield from findings(f"{stage}, {UNSEEN_TASK}", lab.evaluate(policy, (left_out,)), policy.seconds)
            for worlds, level in LEVELS.items():
                yield from findings(f"{stage}, {worlds}", lab.evaluate(policy, tasks, level), policy.seconds)
            yield from findings(f"{stage}, {WORDS}", lab.evaluate(policy, tasks, unseen_words=True), policy.seconds)

    def judge(self, records: Sequence[Record]) -> Verdict:
        """See `Experiment`."""
        kinds = [name.removeprefix("RL, ") for name in names_of(records, "stage") if name.startswith("RL, ")]
        if not kinds:
            return Verdict("not decided", "Nothing was evaluated after RL yet.")
        pairs = {kind: [pool(records, stage=f"{stage}, {kind}") for stage in ("SFT", "RL")] for kind in kinds}
        told = "; ".join(f"{kind}: {before} -> {after}" for kind, (before, after) in pairs.items())
        lost = [kind for kind, (before, after) in pairs.items() if after.interval[1] < before.interval[0]]
        text = f"SFT -> RL. {told}. Clearly lost by RL: {', '.join(lost) or 'nothing'}."
        return Verdict("did not hold" if lost else "held", text)
