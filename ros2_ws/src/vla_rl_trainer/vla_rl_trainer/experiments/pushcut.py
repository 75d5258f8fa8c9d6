"""Does RL find ways that no demonstration showed where only the outcome counts, and does a strict checker stop it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vla_rl_trainer.evaluation import Evaluation, Outcome
from vla_rl_trainer.experiments.experiment import Finding, Verdict, apart, findings
from vla_rl_trainer.experiments.lab import Lab, Trained
from vla_rl_trainer.experiments.record import Record, pool
from vla_rl_trainer.experiments.scale import Scale

OUTCOME, STRICT = "outcome alone", "strict"
NO_GRASP = "without a grasp"
NUM_VIDEOS = 4
"""Worlds that are filmed: solved without a grasp after RL, where there are such."""


class Pushcut:
    """Tasks whose checker of the outcome lets an object be pushed where demonstrations carry it."""

    name = "pushcut"
    claim = (
        "Trained on the outcome alone, RL succeeds more often without a grasp than the demonstrations' policy does; "
        "trained with a checker that asks for one, it does not."
    )
    paper = "Seen on move_can_pot and place_a2b_left and _right ('pushcut'); no numbers."
    differs = (
        "Where the demonstrations' policy grasps surely, pushing may never be sampled, and a policy that succeeds "
        "already has no need of another way; in the paper SFT ends lower."
    )
    tasks = ("move_can_pot", "place_a2b_left", "place_a2b_right")

    def conditions(self, scale: Scale) -> Sequence[str]:
        """See `Experiment`."""
        chosen = self.tasks if len(scale.tasks) > 1 else self.tasks[:1]
        return [f"{task}, {checker}" for task in chosen for checker in (OUTCOME, STRICT)]

    def run(self, condition: str, seed: int, lab: Lab) -> Iterator[Finding]:
        """See `Experiment`."""
        task, _, checker = condition.partition(", ")
        start = lab.sft((task,), lab.scale.num_demos, seed, mirror=True)
        yield from _look("SFT", start, task, lab)
        trained = lab.grpo(start, (task if checker == OUTCOME else f"{task}_strict",), seed)
        yield from _look("RL", trained, task, lab)
        evaluation, _ = lab.evaluate(trained, (task,))
        telling = _pushed(evaluation) or evaluation.outcomes
        worlds = [one.seed for one in telling[:NUM_VIDEOS]]
        lab.film({"SFT": start, "RL": trained}, task, worlds, f"{condition}, seed {seed}")

    def judge(self, records: Sequence[Record]) -> Verdict:
        """See `Experiment`."""
        parts = {}
        for stage in ("SFT", "RL"):
            for checker in (OUTCOME, STRICT):
                own = [one for one in records if one.condition.endswith(f", {checker}")]
                parts[stage, checker] = pool(own, stage=f"{stage}, {NO_GRASP}")
        if not all(part.episodes for part in parts.values()):
            return Verdict("not decided", "There are too few successes to tell how they came about.")
        told = "; ".join(
            f"{stage}{f' with the {checker} checker' if stage == 'RL' else ''} {part}"
            for (stage, checker), part in parts.items()
            if stage == "RL" or checker == OUTCOME
        )
        before, loose, strict = parts["SFT", OUTCOME], parts["RL", OUTCOME], parts["RL", STRICT]
        grows = loose.rate > before.rate and apart(loose, before)
        stays = strict.rate < loose.rate and apart(strict, loose)
        return Verdict("held" if grows and stays else "did not hold", f"Successes without a grasp: {told}.")


def _look(stage: str, policy: Trained, task: str, lab: Lab) -> Iterator[Finding]:
    """Success under either checker, and how many of the first are without a grasp."""
    loose = lab.evaluate(policy, (task,))
    yield from findings(f"{stage}, {OUTCOME}", loose, policy.seconds)
    evaluation, outcomes = loose
    yield Finding(
        stage=f"{stage}, {NO_GRASP}",
        task=task,
        successes=len(_pushed(evaluation)),
        episodes=evaluation.num_successes,
        outcomes=outcomes,
    )
    yield from findings(f"{stage}, {STRICT}", lab.evaluate(policy, (f"{task}_strict",)), policy.seconds)


def _pushed(evaluation: Evaluation) -> list[Outcome]:
    """Successes without a grasp."""
    return [one for one in evaluation.outcomes if one.success and "grasped" not in one.signals]
