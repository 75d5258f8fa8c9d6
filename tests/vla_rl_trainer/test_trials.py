"""Trials are kept one by one, and policies are compared on the worlds they share."""

import dataclasses
import itertools

import pytest

from vla_policy.errors import VlaError
from vla_rl_trainer.trials import Planned, Trial, TrialLog, comparisons, conduct, mcnemar, summarise


def plan(policy="rl", column="sim", seeds=range(4)):
    return [Planned(column=column, policy=policy, task="click_bell", seed=seed) for seed in seeds]


def run(planned, success, seconds=2.0):
    return Trial(**dataclasses.asdict(planned), success=success, seconds=seconds)


class ScriptedStage:
    """Solves even seeds; breaks down at one, if told."""

    def __init__(self, breaks_at=None):
        self.calls = []
        self._breaks_at = breaks_at

    def reset(self, planned):
        self.calls.append(("reset", planned.seed))
        self._seed = planned.seed

    def start(self):
        self.calls.append("start")

    def outcome(self, time_limit):
        if self._seed == self._breaks_at:
            raise KeyboardInterrupt
        return self._seed % 2 == 0, time_limit / 2, ""

    def stop(self):
        self.calls.append("stop")


def test_every_trial_is_reset_started_and_stopped(tmp_path):
    stage = ScriptedStage()
    trials = list(conduct(stage, plan(seeds=range(2)), TrialLog(tmp_path / "trials.jsonl"), time_limit=5.0))
    assert [(trial.success, trial.seconds) for trial in trials] == [(True, 2.5), (False, 2.5)]
    assert stage.calls == [("reset", 0), "start", "stop", ("reset", 1), "start", "stop"]


def test_an_interrupted_evaluation_goes_on_where_it_stopped(tmp_path):
    log = TrialLog(tmp_path / "run" / "trials.jsonl")
    broken = ScriptedStage(breaks_at=2)
    with pytest.raises(KeyboardInterrupt):
        list(conduct(broken, plan(), log, 5.0))
    assert broken.calls[-1] == "stop"
    assert [trial.seed for trial in log.read()] == [0, 1]
    stage = ScriptedStage()
    assert [trial.seed for trial in conduct(stage, plan(), log, 5.0)] == [2, 3]
    assert list(conduct(stage, plan(), log, 5.0)) == []


def test_a_line_cut_off_by_a_crash_is_run_again_and_written_over(tmp_path):
    path = tmp_path / "trials.jsonl"
    log = TrialLog(path)
    for planned in plan(seeds=range(2)):
        log.append(run(planned, True))
    path.write_bytes(path.read_bytes()[:-9])
    assert [trial.seed for trial in log.read()] == [0]
    log.append(run(plan()[3], False))
    assert [trial.seed for trial in log.read()] == [0, 3]


def test_a_damaged_line_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "trials.jsonl"
    path.write_text("{}\n")
    with pytest.raises(VlaError, match=r"is damaged .* give another --out"):
        TrialLog(path).read()


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 0.0625), (0, 10, 2 / 1024), (8, 2, 0.109375), (4, 4, 1.0)],
)
def test_mcnemar_is_the_exact_binomial_test(only_first, only_second, expected):
    assert mcnemar(only_first, only_second) == pytest.approx(expected)
    assert mcnemar(only_second, only_first) == pytest.approx(expected)


def test_policies_are_compared_on_shared_worlds_of_one_column_only():
    trials = [run(one, one.seed < 1) for one in plan("sft", seeds=range(6))]
    trials += [run(one, True) for one in plan("rl", seeds=range(2, 8))]
    trials += [run(one, False) for one in plan("rl", column="real", seeds=range(6))]
    (found,) = comparisons(trials)
    assert (found.column, found.first, found.second) == ("sim", "sft", "rl")
    assert (found.num_pairs, found.only_first, found.only_second) == (4, 0, 4)


def test_the_summary_has_a_rate_for_every_policy_and_column():
    columns = ("sim", "emulated")
    trials = [run(one, one.seed > 0) for column in columns for one in plan(column=column)]
    summary = summarise(trials)
    assert (summary["num_episodes"], summary["success_rate"]) == (8, 0.75)
    assert list(summary["policies"]["rl"]) == list(columns)
    rate = summary["policies"]["rl"]["emulated"]
    assert (rate["num_successes"], rate["mean_seconds_to_success"]) == (3, 2.0)
    assert rate["ci95"] == pytest.approx([0.3006, 0.9544], abs=1e-3)


def test_names_of_trials_do_not_collide_between_policies(tmp_path):
    log = TrialLog(tmp_path / "trials.jsonl")
    everything = list(itertools.chain(plan("sft"), plan("rl")))
    assert len(list(conduct(ScriptedStage(), everything, log, 1.0))) == 8
