"""Evaluation: on worlds training never sees, the same for any machine, and kept as it was."""

import json

import numpy as np
import pytest

from piper_twin.episode import SPLITS
from piper_twin.tasks import TASKS
from piper_twin.worlds import TwinConfig
from vla_policy.errors import VlaError
from vla_rl_trainer.evaluation import SPLIT, Evaluation, EvaluationConfig, Outcome, evaluate_policy
from vla_rl_trainer.train_grpo import TrainGrpoConfig


def outcome(success, *signals, task="click_bell", seed=0):
    return Outcome(task, seed, success, 10, signals)


EVALUATION = Evaluation(
    "argmax",
    (
        outcome(True, "grasped", "lifted", seed=0),
        outcome(True, "pushed", seed=1),
        outcome(False, "grasped", seed=2),
        outcome(True, "grasped", "lifted", seed=3),
        outcome(True, task="stack_bowls", seed=0),
    ),
    dropped=("stack_bowls", "click_bell", "stack_bowls"),
)


def test_no_episode_of_training_is_one_of_evaluation(toys, policy):
    """Neither by name nor, for the same seeds, by the world that is drawn."""
    groups = toys.sample_groups(policy, 5)
    env = toys.ScriptedEnv(4, toys.pattern("1", "0"))
    evaluate_policy(env, policy, ("bell",), EvaluationConfig(num_episodes=len(groups)))
    assert {episode.split for episode in env.started} == {"evaluation"}
    assert not {group.episode for group in groups} & set(env.started)
    with pytest.raises(VlaError, match="would spoil every evaluation"):
        TrainGrpoConfig(checkpoint="x", split=SPLIT)


@pytest.mark.parametrize("task", TASKS)
def test_the_splits_draw_different_worlds_from_the_same_seeds(toys, task):
    worlds = set()
    for split in SPLITS:
        for seed in range(100):
            scene = TASKS[task].scene(toys.Episode(task, seed, split).generator("scene"))
            worlds.add(tuple((name, place.x, place.y) for name, place in scene.placements.items()))
    assert len(worlds) == 100 * len(SPLITS)


def test_every_world_counts_once_in_order_and_dropped_ones_do_not(toys, policy):
    env = toys.ScriptedEnv(3, toys.pattern("1", "0", "1", "x"))
    found = evaluate_policy(env, policy, ("bell", "bowl"), EvaluationConfig(num_episodes=5, first_seed=8))
    assert [(one.task, one.seed, one.success) for one in found.outcomes] == [
        (task, seed, seed % 4 != 1) for task in ("bell", "bowl") for seed in (8, 9, 10, 12)
    ]
    assert found.num_dropped == 2
    assert [found.of_task(task).num_dropped for task in ("bell", "bowl", "can")] == [1, 1, 0]
    assert found.tasks == ("bell", "bowl")
    assert {one.signals for one in found.outcomes if one.success} == {("touched",)}
    assert len(env.started) == 10


def test_the_decoding_asked_for_is_used_and_the_policys_own_comes_back(toys, policy):
    usual, seen = policy.decoding, []
    act = policy.act
    policy.act = lambda *arguments: seen.append(policy.decoding) or act(*arguments)
    env = toys.ScriptedEnv(3, toys.pattern("11"))
    assert evaluate_policy(env, policy, ("bell",), EvaluationConfig(num_episodes=2), "argmax").decoding == "argmax"
    assert evaluate_policy(env, policy, ("bell",), EvaluationConfig(num_episodes=2)).decoding == usual != "argmax"
    assert set(seen) == {"argmax", usual}
    assert policy.decoding == usual


def test_a_failed_evaluation_gives_the_decoding_back_too(toys, policy):
    usual = policy.decoding
    with pytest.raises(ZeroDivisionError):
        evaluate_policy(
            toys.ScriptedEnv(1, lambda episode, attempt: 1 / 0), policy, ("a",), EvaluationConfig(), "argmax"
        )
    assert policy.decoding == usual


@pytest.mark.sim
def test_any_number_of_workers_and_slots_gives_the_same_outcomes(toys):
    policy, results = toys.make_piper_policy(), []
    for num_workers, num_slots in ((1, 4), (2, 4), (1, 3)):
        with toys.ShortTwin(num_slots, TwinConfig(image_size=8), num_workers=num_workers) as env:
            results.append(evaluate_policy(env, policy, ("click_bell",), EvaluationConfig(num_episodes=7)))
    assert results[0] == results[1] == results[2]
    assert 0 < results[0].num_successes < 7


def test_what_was_written_is_read(tmp_path):
    both = {"argmax": EVALUATION, "expectation": Evaluation("expectation", (), ())}
    Evaluation.write(tmp_path / "evaluation.json", both)
    assert Evaluation.read(tmp_path / "evaluation.json") == both


@pytest.mark.parametrize("content", ["", '{"argmax": {', "[]", "3", '{"argmax": 3}', '{"argmax": {"decoding": "a"}}'])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(VlaError, match=r"evaluation.json is damaged .*; delete it, and it is made again"):
        Evaluation.read(tmp_path / "evaluation.json")


def test_a_file_with_an_unknown_field_is_damaged_too(tmp_path):
    Evaluation.write(tmp_path / "evaluation.json", {"argmax": EVALUATION})
    content = json.loads((tmp_path / "evaluation.json").read_text())
    content["argmax"]["outcomes"][0]["colour"] = "red"
    (tmp_path / "evaluation.json").write_text(json.dumps(content))
    with pytest.raises(VlaError, match="is damaged"):
        Evaluation.read(tmp_path / "evaluation.json")


def test_strategies_count_the_signals_of_successes():
    assert EVALUATION.of_task("click_bell").strategies() == {"grasped + lifted": 2, "pushed": 1}
    assert EVALUATION.strategies() == {"grasped + lifted": 2, "pushed": 1, "none": 1}


def test_a_summary_has_rate_interval_and_counts():
    summary = EVALUATION.summary()
    assert summary["success_rate"] == 0.8
    assert (summary["num_episodes"], summary["num_successes"], summary["num_dropped"]) == (5, 4, 3)
    np.testing.assert_allclose(summary["ci95"], (0.3755, 0.9638), atol=1e-4)  # Wilson, 4 of 5
    assert summary["decoding"] == "argmax"
    json.dumps(summary)


def test_tasks_are_told_apart():
    assert EVALUATION.tasks == ("click_bell", "stack_bowls")
    assert EVALUATION.of_task("stack_bowls").success_rate == 1.0
    assert EVALUATION.of_task("click_bell").success_rate == 0.75
    assert [EVALUATION.of_task(task).num_dropped for task in EVALUATION.tasks] == [1, 2]


@pytest.mark.parametrize("change", [{"num_episodes": 0}, {"first_seed": -1}])
def test_what_names_no_worlds_is_refused(change):
    with pytest.raises(VlaError, match=f"{next(iter(change))} is"):
        EvaluationConfig(**change)
