"""Experiments: every one at toy size, verdicts over hand-made numbers, resumed, merged, and on one page."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from piper_twin.wilson import wilson_interval
from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy
from vla_rl_trainer.base import base_policy
from vla_rl_trainer.evaluation import Evaluation, Outcome
from vla_rl_trainer.experiments import __main__ as experiments
from vla_rl_trainer.experiments import ablations, exploration_cost, lab, publish, transfer
from vla_rl_trainer.experiments.__main__ import ExperimentsConfig, main
from vla_rl_trainer.experiments.choose import EXPERIMENTS
from vla_rl_trainer.experiments.experiment import REFUSED
from vla_rl_trainer.experiments.lab import Lab, Machine, Trained
from vla_rl_trainer.experiments.record import Record, merged, pool, read_records, write_records
from vla_rl_trainer.experiments.scale import SCALES
from vla_rl_trainer.experiments.writing import write_all
from vla_rl_trainer.grpo_trainer import NothingToLearn
from vla_rl_trainer.train_grpo import ours


class Bench:
    """Stands for a lab: policies are names, and how often each succeeds is a rule."""

    def __init__(self, out: Path, scale, machine=None):
        self.out, self.scale, self.asked, self.filmed = out, scale, [], []

    def sft(self, tasks, num_demos, seed, *, randomization="off", mirror=False):
        self.asked.append(("sft", tuple(tasks), num_demos, seed, randomization))
        return Trained(Path(f"sft{num_demos}"))

    def grpo(self, start, tasks, seed, change=lambda config: config):
        if start.folder == Path("sft0"):
            raise NothingToLearn("sft0 solved 0 of 64 episodes")
        self.asked.append(("grpo", tuple(tasks), change(ours(Path("x")))))
        return Trained(Path(f"rl of {start.folder}"), 100.0)

    def evaluate(self, policy, tasks, randomization="off", *, unseen_words=False):
        solved = {"sft0": 0, "sft1": 1}.get(policy.folder.name, 9 if "rl" in policy.folder.name else 3)
        signals = ("lifted",) if "rl" in policy.folder.name else ("grasped", "lifted")
        outcomes = tuple(Outcome(task, seed, seed < solved, 9, signals) for task in tasks for seed in range(10))
        return Evaluation("argmax", outcomes, ()), self.out / "stages" / "evaluation.json"

    def film(self, policies, task, seeds, title):
        self.filmed.append((tuple(policies), task, list(seeds), title))
        (self.out / "films").mkdir(exist_ok=True)
        (self.out / "films" / f"{title}.html").write_text("a film")


@pytest.fixture
def bench(monkeypatch):
    made = []

    def open_bench(out, scale, machine):
        made.append(Bench(out, scale, machine))
        return made[-1]

    monkeypatch.setattr(experiments, "Lab", open_bench)
    monkeypatch.setattr(transfer, "has_ros", lambda: False)
    return made


def record(experiment="ablations", condition="all on", stage="RL", successes=5, episodes=10, **changes) -> Record:
    given = dict(
        experiment=experiment, condition=condition, stage=stage, task="click_bell", seed=0, successes=successes,
        episodes=episodes, ci95=wilson_interval(successes, episodes), seconds=60.0, scale="laptop",
        command="python -m x", commit="abc", hardware="2 cores", outcomes="",
    )  # fmt: skip
    return Record(**(given | changes))


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_every_experiment_runs_at_toy_size_and_writes_all_it_owes(name, bench, tmp_path, capsys):
    config = ExperimentsConfig(name=name, out=tmp_path, scale="toy", seeds=(0, 1))
    assert main(config) == 0
    out = tmp_path / name
    for file in ("records.json", "table.md", "plot.png", "report.html"):
        assert (out / file).stat().st_size > 200, file
    records = read_records(out / "records.json")
    conditions = EXPERIMENTS[name].conditions(SCALES["toy"])
    assert {one.condition for one in records} == set(conditions)
    assert {one.seed for one in records} == {0, 1}
    assert all(one.ci95 == pytest.approx(wilson_interval(one.successes, one.episodes)) for one in records)
    assert {one.scale for one in records} == {"toy"}
    assert EXPERIMENTS[name].claim.split(",")[0] in capsys.readouterr().out


@pytest.mark.parametrize("name", list(EXPERIMENTS))
def test_a_second_run_asks_for_nothing_and_a_further_seed_for_its_own(name, bench, tmp_path):
    config = ExperimentsConfig(name=name, out=tmp_path, scale="toy", seeds=(0,))
    main(config)
    main(config)
    assert bench[0].asked
    assert not bench[1].asked
    main(dataclasses.replace(config, seeds=(0, 1)))
    assert 0 < len(bench[2].asked) <= len(bench[0].asked)


def test_a_folder_of_other_sizes_is_refused(bench, tmp_path):
    config = ExperimentsConfig(name="ablations", out=tmp_path, scale="toy", seeds=(0,))
    main(config)
    with pytest.raises(VlaError, match="ablations was measured with another tasks; choose another --out"):
        main(dataclasses.replace(config, tasks=("stack_bowls",)))
    main(dataclasses.replace(config, scale="laptop", seeds=(0, 1, 2), tasks=("stack_bowls",)))


def test_what_a_killed_run_had_measured_is_kept(bench, tmp_path, monkeypatch):
    config = ExperimentsConfig(name="ablations", out=tmp_path, scale="toy", seeds=(0,))
    own, count = Bench.grpo, []

    def killed(self, start, tasks, seed, change=lambda config: config):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return own(self, start, tasks, seed, change)

    monkeypatch.setattr(Bench, "grpo", killed)
    with pytest.raises(KeyboardInterrupt):
        main(config)
    there = read_records(tmp_path / "ablations" / "records.json")
    assert len({one.condition for one in there}) == 2
    main(config)
    assert len(count) == 3 + len(ablations.CHANGES) - 2


def test_the_real_thing_at_toy_size(tmp_path):
    """Demonstrations, SFT, GRPO and evaluations of the twin itself."""
    config = ExperimentsConfig(
        name="sft_vs_rl", out=tmp_path, scale="toy", seeds=(0,), machine=Machine(backend="mujoco", num_workers=1)
    )
    main(config)
    out = tmp_path / "sft_vs_rl"
    records = read_records(out / "records.json")
    assert [(one.stage, one.episodes) for one in records] == [("SFT", 4), ("RL", 4)]
    assert records[1].seconds > 0.0
    for one in records:
        outcomes = json.loads((out / one.outcomes).read_text())
        assert sum(ended["success"] for found in outcomes.values() for ended in found["outcomes"]) == one.successes
    before = {path: path.stat().st_mtime_ns for path in (out / "stages").rglob("*") if path.is_file()}
    (out / "records.json").unlink()
    main(config)
    assert {path: path.stat().st_mtime_ns for path in before} == before, "finished stages are not done again"


def test_a_lab_may_be_moved_and_shares_what_conditions_have_in_common(tmp_path, monkeypatch):
    trained = []

    def train(config):
        trained.append(config)
        (config.out / "checkpoints" / "step_000001").mkdir(parents=True)
        return config.out / "checkpoints" / "step_000001"

    monkeypatch.setattr(lab.train_sft, "main", train)
    monkeypatch.setattr(lab.train_grpo, "main", train)
    monkeypatch.setattr(Lab, "demonstrations", lambda self, *rest: self.out / "demos")
    here = Lab(tmp_path / "here", SCALES["toy"], Machine())
    start = here.sft(("click_bell",), 1, 0)
    assert here.sft(("click_bell",), 1, 0) == start
    first = here.grpo(start, ("click_bell",), 0)
    assert here.grpo(start, ("click_bell",), 0, ablations.CHANGES[ablations.ALL_ON]) == first
    assert here.grpo(start, ("click_bell",), 0, ablations.at_temperature_1) != first
    assert len(trained) == 3
    (tmp_path / "here").rename(tmp_path / "there")
    there = Lab(tmp_path / "there", SCALES["toy"], Machine(num_workers=1))
    moved = there.grpo(there.sft(("click_bell",), 1, 0), ("click_bell",), 0)
    assert moved.folder == tmp_path / "there" / first.folder.relative_to(tmp_path / "here")
    assert len(trained) == 3


def test_ablations_change_one_thing_each_and_all_off_all_of_them():
    config = ours(Path("x"))
    for name, change in ablations.CHANGES.items():
        changed = change(config)
        assert (changed == config) == (name == ablations.ALL_ON)
    off = ablations.all_off(config)
    assert (off.temperature, off.uniform_tasks, off.group.lower_bound) == (1.0, True, 0.0)
    assert (off.learner.loss.clip_low, off.learner.loss.clip_high) == (0.2, 0.2)
    assert ablations.CHANGES["clip 0.2 .. 1.28"](config).learner.loss.clip_low == 0.8


def test_a_gain_of_fifty_points_holds_and_less_does_not():
    judge = EXPERIMENTS["sft_vs_rl"].judge
    before = record("sft_vs_rl", "click_bell", "SFT", 30, 100)
    assert judge([before]).held == "not decided"
    assert judge([before, record("sft_vs_rl", "click_bell", "RL", 85, 100)]).held == "held"
    verdict = judge([before, record("sft_vs_rl", "click_bell", "RL", 60, 100)])
    assert verdict.held == "did not hold"
    assert "+30.0 points" in verdict.text
    assert "30% (22 to 40)" in verdict.text


def test_a_cold_start_needs_the_refusal_and_the_one_demonstration():
    def told(one_demo, refusal=True):
        records = [
            record("cold_start", "0", "SFT", 0, 100),
            record("cold_start", "1", "SFT", 20, 100),
            record("cold_start", "1", "RL", one_demo, 100),
            record("cold_start", "500", "SFT", 80, 100),
            record("cold_start", "500", "RL", 95, 100),
        ]
        return [*records, record("cold_start", "0", REFUSED, 1, 1)] if refusal else records

    judge = EXPERIMENTS["cold_start"].judge
    assert judge(told(92)).held == "held"
    assert judge(told(70)).held == "did not hold"
    assert judge(told(92, refusal=False)).held == "did not hold"
    assert judge(told(92)[:3]).held == "not decided"
    assert "0: 0% (0 to 4) -> RL refused" in judge(told(92)).text


def test_ablations_hold_where_every_trick_left_out_costs_clearly():
    def told(worth):
        return [
            record(condition=name, successes=90 if name == ablations.ALL_ON else worth, episodes=100)
            for name in ablations.CHANGES
        ]

    judge = EXPERIMENTS["ablations"].judge
    assert judge(told(50)).held == "held"
    assert judge(told(89)).held == "did not hold"
    assert judge(told(50)[:3]).held == "not decided"


def test_pushcut_holds_where_pushing_grows_and_a_strict_checker_stops_it():
    def told(loose, strict):
        rows = []
        for checker, after in (("outcome alone", loose), ("strict", strict)):
            condition = f"move_can_pot, {checker}"
            rows.append(record("pushcut", condition, "SFT, without a grasp", 2, 50))
            rows.append(record("pushcut", condition, "RL, without a grasp", after, 50))
        return rows

    judge = EXPERIMENTS["pushcut"].judge
    assert judge(told(40, 1)).held == "held"
    assert judge(told(40, 39)).held == "did not hold"
    assert judge(told(3, 1)).held == "did not hold"
    assert judge([]).held == "not decided"


def test_pushcut_films_both_policies_where_rl_found_a_way_without_a_grasp(bench, tmp_path):
    main(ExperimentsConfig(name="pushcut", out=tmp_path, scale="toy", seeds=(0,)))
    loose, strict = bench[0].filmed
    assert loose == (("SFT", "RL"), "move_can_pot", [0, 1, 2, 3], "move_can_pot, outcome alone, seed 0")
    assert strict[-1] == "move_can_pot, strict, seed 0"
    page = (tmp_path / "pushcut" / "report.html").read_text()
    assert '<a href="films/move_can_pot%2C%20strict%2C%20seed%200.html">move_can_pot, strict, seed 0</a>' in page


def test_a_film_has_a_column_for_every_policy_and_is_made_once(tmp_path, monkeypatch):
    lab = Lab(tmp_path, SCALES["toy"], Machine(backend="mujoco"))
    base = Trained(base_policy())
    lab.film({"before": base, "after": base}, "click_bell", [3], "a title")
    page = tmp_path / "films" / "a title.html"
    told = page.read_text()
    assert told.count("<video") == 2
    for name in ("before", "after"):
        assert f"click_bell, world 3, {name}: " in told
    monkeypatch.setattr(VlaPolicy, "load", None)
    lab.film({"before": base, "after": base}, "click_bell", [3], "a title")
    assert page.read_text() == told


def test_generalisation_does_not_hold_where_rl_clearly_loses():
    judge = EXPERIMENTS["generalisation"].judge

    def told(after):
        return [
            record("generalisation", "without x", "SFT, unseen task", 40, 100),
            record("generalisation", "without x", "RL, unseen task", after, 100),
        ]

    assert judge(told(42)).held == "held"
    assert judge(told(10)).held == "did not hold"
    assert judge([]).held == "not decided"


def test_transfer_asks_for_the_lead_and_for_wider_worlds_to_help():
    judge = EXPERIMENTS["transfer"].judge

    def told(narrow, wide):
        return [
            record("transfer", level, f"{stage}, shifted", rate, 100)
            for level, rates in (("off", (10, narrow)), ("wide", (10, wide)))
            for stage, rate in zip(("SFT", "RL"), rates, strict=True)
        ]

    assert judge(told(30, 60)).held == "held"
    assert judge(told(60, 30)).held == "did not hold"
    assert judge(told(60, 5)).held == "did not hold"
    assert judge(told(30, 60)[:2]).held == "not decided"


def test_transfer_counts_the_trials_through_ros_as_the_evaluator_tells_them(tmp_path, monkeypatch):
    asked = []

    def run_trials(given, num_trials, out, seconds_each):
        asked.append((given, out))
        return {"policies": {given["policy"]: {"emulated": {"num_successes": 3, "num_episodes": num_trials}}}}

    monkeypatch.setattr(transfer, "run_trials", run_trials)
    monkeypatch.setattr(transfer, "has_ros", lambda: True)
    laptop = dataclasses.replace(SCALES["laptop"], tasks=("click_bell",))
    here = Lab(tmp_path, laptop, Machine(backend="mujoco"))
    found = list(transfer._through_ros("RL", Trained(tmp_path / "stages" / "grpo"), ("click_bell",), here))
    assert [(one.stage, one.successes, one.episodes) for one in found] == [
        ("RL, through ROS, emulated arms", 3, transfer.NUM_TRIALS)
    ]
    ((given, out),) = asked
    assert (given["task"], given["where"], given["emulate"]) == ("click_bell", "real", True)
    assert tmp_path in out.parents


def test_exploration_cost_compares_seconds_to_the_same_success():
    judge = EXPERIMENTS["exploration_cost"].judge

    def told(other):
        names = exploration_cost.CHANGES
        return [record("exploration_cost", name, seconds=100.0 if name == "ours" else other) for name in names]

    assert judge(told(150.0)).held == "held"
    assert judge(told(50.0)).held == "did not hold"
    assert judge(told(50.0)[:2]).held == "not decided"


def test_newer_records_replace_older_ones_of_the_same_key_alone(tmp_path):
    old = [record(successes=1), record(seed=1, successes=2)]
    both = merged(old, [record(successes=7)])
    assert [(one.seed, one.successes) for one in both] == [(0, 7), (1, 2)]
    assert pool(both) == pool(both, condition="all on")
    assert str(pool([])) == "-"
    file = tmp_path / "records.json"
    write_records(file, both)
    assert read_records(file) == both
    assert read_records(tmp_path / "none.json") == []
    file.write_text("[{}]")
    with pytest.raises(VlaError, match=r"holds no records .*; restore it, or delete it to begin anew"):
        read_records(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "sft_vs_r"}, "experiment 'sft_vs_r' does not exist; did you mean 'sft_vs_rl'"),
        ({"seeds": (0, 1)}, "2 seeds decide nothing; give at least 3"),
        ({"seeds": (0, 0, 0)}, "1 seeds decide nothing; give at least 3"),
        ({"seeds": (0, 1, -1)}, "seeds count from 0"),
        ({"conditions": ("pick_botle",)}, "condition 'pick_botle' does not exist; did you mean 'pick_bottle'"),
        ({"tasks": ("fly",)}, "fly"),
        ({"scale": "toy", "publish": Path("x.json")}, "toy mean nothing; publish those of laptop or full"),
    ],
)
def test_what_decides_nothing_is_refused(changes, message):
    with pytest.raises(VlaError, match=message):
        ExperimentsConfig(**({"name": "sft_vs_rl"} | changes))


def test_the_page_has_every_claim_the_papers_number_ours_and_where_it_comes_from(tmp_path):
    records = [record("sft_vs_rl", "click_bell", "SFT", 30, 100), record("sft_vs_rl", "click_bell", "RL", 85, 100)]
    write_records(tmp_path / "results.json", records)
    publish.main(publish.PublishConfig(records=tmp_path / "results.json", page=tmp_path / "results.html"))
    page = (tmp_path / "results.html").read_text()
    for said in (
        *EXPERIMENTS,
        "38.3 % after SFT",
        "Not run yet: pick_bottle",
        "85% (77 to 91)",
        "2 cores",
        "abc",
        "python -m x",
        "not measured",
    ):
        assert said in page, said
    assert not re.search(r"(src|href)=.(?!data:)", page), "nothing is fetched"
    with pytest.raises(VlaError, match="holds no numbers; run an experiment with --publish"):
        publish.main(publish.PublishConfig(records=tmp_path / "other.json", page=tmp_path / "results.html"))


@pytest.mark.parametrize(("after", "says_why"), [(85, False), (50, True)])
def test_a_page_says_why_ours_may_disagree_where_it_does(tmp_path, after, says_why):
    records = [record("sft_vs_rl", "click_bell", "SFT", 30, 100), record("sft_vs_rl", "click_bell", "RL", after, 100)]
    write_all(tmp_path, EXPERIMENTS["sft_vs_rl"], records, ["click_bell"])
    told = EXPERIMENTS["sft_vs_rl"].differs
    assert (told in (tmp_path / "report.html").read_text()) == says_why


def test_an_experiment_of_which_nothing_is_known_is_written_all_the_same(tmp_path):
    for experiment in EXPERIMENTS.values():
        assert write_all(tmp_path, experiment, [], ["all"]).held == "not decided"


def test_a_claim_is_not_decided_by_a_part_of_its_conditions(tmp_path):
    experiment = EXPERIMENTS["sft_vs_rl"]
    records = [record("sft_vs_rl", "click_bell", "SFT", 30, 100), record("sft_vs_rl", "click_bell", "RL", 95, 100)]
    assert write_all(tmp_path, experiment, records, ["click_bell"]).held == "held"
    verdict = write_all(tmp_path, experiment, records, ["click_bell", "pick_bottle"])
    assert verdict.held == "not decided"
    assert "Not run yet: pick_bottle." in verdict.text


def test_a_task_without_anything_to_learn_ends_its_own_condition_alone(bench, tmp_path, monkeypatch):
    own = Bench.grpo

    def refusing(self, start, tasks, seed, change=lambda config: config):
        if tasks == ("stack_bowls",):
            raise NothingToLearn("solved 0 of 64 episodes")
        return own(self, start, tasks, seed, change)

    monkeypatch.setattr(Bench, "grpo", refusing)
    main(
        ExperimentsConfig(name="sft_vs_rl", out=tmp_path, scale="toy", seeds=(0,), tasks=("stack_bowls", "click_bell"))
    )
    stages = {(one.condition, one.stage) for one in read_records(tmp_path / "sft_vs_rl" / "records.json")}
    assert {("stack_bowls", "SFT"), ("stack_bowls", REFUSED), ("click_bell", "RL")} <= stages
    assert ("stack_bowls", "RL") not in stages


def test_numbers_are_published_beside_those_that_are_there(bench, tmp_path):
    file = tmp_path / "results.json"
    write_records(file, [record("ablations")])
    config = ExperimentsConfig(name="sft_vs_rl", out=tmp_path, scale="laptop", tasks=("click_bell",), publish=file)
    main(config)
    assert {one.experiment for one in read_records(file)} == {"ablations", "sft_vs_rl"}
    assert {one.seed for one in read_records(file) if one.experiment == "sft_vs_rl"} == {0, 1, 2}
