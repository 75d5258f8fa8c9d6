"""The command that says how good a checkpoint is: its files, its exit code, its refusals."""

import dataclasses
import json
import sys

import numpy as np
import pytest

from piper_twin.robot import DUAL_PIPER
from vla_policy import presets
from vla_policy.checkpoint import weights_sha256
from vla_policy.errors import VlaError
from vla_policy.normalization import DatasetStatistics, Statistics
from vla_policy.policy import VlaPolicy
from vla_rl_trainer import evaluate
from vla_rl_trainer.benchmarks import twin
from vla_rl_trainer.command import run_command
from vla_rl_trainer.evaluate import EvaluateConfig, to_film
from vla_rl_trainer.evaluation import Evaluation, Outcome

SPREAD = np.linspace([-0.05] * 14, [0.05] * 14, 11)


@pytest.fixture
def checkpoint(tmp_path, toys):
    """An untrained policy that sees 16 px."""
    network = dataclasses.replace(
        presets.tiny(DUAL_PIPER), image_size=16, vision_channels=(8, 8), num_image_tokens=2, hidden_size=16,
        num_layers=1, num_heads=2, intermediate_size=16,
    )  # fmt: skip
    spread = Statistics.of(SPREAD)
    statistics = DatasetStatistics(action=spread, proprio=spread, num_transitions=11, num_trajectories=1)
    VlaPolicy.create(network, DUAL_PIPER, statistics, toys.TOKENIZER).save(tmp_path / "policy")
    return tmp_path / "policy"


def outcome(seed, success, task="click_bell", signals=("pressed",)):
    return Outcome(task, seed, success, 40 if success else 64, signals)


@pytest.fixture
def half_solved(monkeypatch):
    """Every second world of each task solved, the last one dropped; filmed at once."""

    def evaluated(config, policy):
        seeds = range(config.worlds.num_episodes - 1)
        found = [outcome(seed, seed % 2 == 0, task) for task in config.tasks for seed in seeds]
        return Evaluation(policy.decoding, tuple(found), config.tasks)

    class Studio:
        def __init__(self, *_):
            pass

        def film(self, policy, episode):
            return b"mp4 of %d" % episode.seed, episode.seed == 0

        def close(self):
            pass

    monkeypatch.setattr(evaluate, "evaluate", evaluated)
    monkeypatch.setattr(twin, "FilmStudio", Studio)


def config_of(checkpoint, **fields):
    return EvaluateConfig(checkpoint=checkpoint, out=checkpoint.parent / "evaluate", **{"num_episodes": 5} | fields)


def summary_of(config):
    return json.loads((config.out / "summary.json").read_text())


@pytest.mark.sim
def test_a_checkpoint_is_evaluated_filmed_and_the_same_for_any_number_of_workers(checkpoint):
    found = []
    for workers in (1, 2):
        config = config_of(checkpoint, num_episodes=2, num_videos=2 - workers, num_workers=workers)
        config = dataclasses.replace(config, out=checkpoint.parent / str(workers))
        assert evaluate.main(config) == 0
        found.append((config.out / "evaluation.json").read_text())
        assert (config.out / "report.html").read_text().count("<video") == 2 - workers
    assert found[0] == found[1]
    outcomes = next(iter(json.loads(found[0]).values()))["outcomes"]
    assert [one["seed"] for one in outcomes] == [0, 1]
    summary = summary_of(config)
    assert summary["num_episodes"] == 2
    assert summary["control_steps_per_s"] > 0


def test_the_summary_counts_every_task(checkpoint, half_solved, capsys):
    config = config_of(checkpoint, tasks=("click_bell", "pick_bottle"), decoding="argmax", num_videos=0)
    assert evaluate.main(config) == 0
    summary = summary_of(config)
    assert (summary["success_rate"], summary["num_episodes"], summary["num_dropped"]) == (0.5, 8, 2)
    assert summary["strategies"] == {"pressed": 4}
    assert summary["ci95"] == pytest.approx([0.215, 0.785], abs=1e-3)
    assert (summary["decoding"], summary["split"], summary["randomization"]) == ("argmax", "evaluation", "off")
    assert all(summary[name] for name in ("hardware", "commit", "command"))
    assert summary["checkpoint_sha256"] == weights_sha256(checkpoint)
    for task in config.tasks:
        numbers = summary["tasks"][task]
        assert (numbers["success_rate"], numbers["num_episodes"], numbers["num_dropped"]) == (0.5, 4, 1)
        assert numbers["mean_steps_to_success"] == 40
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("click_bell", "pick_bottle", "all", "pressed: 4"))
    assert "No videos were asked for." in (config.out / "report.html").read_text()


def test_the_page_says_when_a_film_ends_differently(checkpoint, half_solved):
    config = config_of(checkpoint)
    evaluate.main(config)
    page = (config.out / "report.html").read_text()
    assert page.count("<video") == 4
    assert "click_bell, world 0: success<" in page
    assert "click_bell, world 2: failure, other than in the evaluation<" in page
    assert "click_bell, world 1: failure<" in page


@pytest.mark.parametrize(("wanted", "code"), [(None, 0), (0.0, 0), (0.5, 0), (0.51, 1), (1.0, 1)])
def test_the_exit_code_says_whether_enough_succeeded(checkpoint, half_solved, wanted, code, capsys):
    assert evaluate.main(config_of(checkpoint, min_success=wanted)) == code
    assert ("is below" in capsys.readouterr().err) == bool(code)


def test_the_same_command_replaces_its_result_and_another_is_refused(checkpoint, half_solved):
    evaluate.main(config_of(checkpoint))
    before = summary_of(config_of(checkpoint))["num_episodes"]
    evaluate.main(config_of(checkpoint, num_videos=1, min_success=0.1))
    with pytest.raises(VlaError, match="num_episodes = 5, now num_episodes = 6"):
        evaluate.main(config_of(checkpoint, num_episodes=6))
    assert summary_of(config_of(checkpoint))["num_episodes"] == before


@pytest.mark.parametrize(
    ("outcomes", "count", "seeds"),
    [
        ("1010101", 4, [0, 2, 1, 3]),
        ("1111111", 4, [0, 1, 2, 3]),
        ("0000000", 4, [0, 1, 2, 3]),
        ("1110000", 3, [0, 1, 3]),
        ("1000000", 4, [0, 1, 2, 3]),
        ("1111110", 4, [0, 1, 2, 6]),
        ("10", 4, [0, 1]),
        ("10", 0, []),
        ("01", 1, [1]),
    ],
)
def test_successes_and_failures_are_filmed_alike_as_far_as_there_are_any(outcomes, count, seeds):
    found = to_film([outcome(seed, mark == "1") for seed, mark in enumerate(outcomes)], count)
    assert [one.seed for one in found] == seeds


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tasks": ("fold_towel",)}, "choose one of .*click_bell"),
        ({"tasks": ()}, "--tasks"),
        ({"tasks": ("click_bell", "click_bell")}, "twice"),
        ({"num_episodes": -1}, "num_episodes is -1; give at least 1"),
        ({"num_videos": -1}, "num_videos is -1"),
        ({"first_seed": -1}, "first_seed is -1"),
        ({"num_workers": 0}, "num_workers is 0"),
        ({"min_success": 80}, "min_success is 80; give at most 1"),
        ({"temperature": 0.0}, "temperature is 0.0; give more than 0"),
        ({"randomization": "wild"}, "choose one of off"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(checkpoint, wrong, message):
    with pytest.raises(VlaError, match=message):
        config_of(checkpoint, **wrong)


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        run_command(evaluate.main, EvaluateConfig)
    return ended.value.code


def test_the_checkpoint_of_another_robot_is_refused_in_one_line(policy, tmp_path, monkeypatch, capsys):
    policy.save(tmp_path / "other")
    assert run(monkeypatch, "--checkpoint", tmp_path / "other", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: checkpoint")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tasks", "fold_towel"), "does not exist"),
        (("--num-episodes", "-3"), "num_episodes is -3"),
        ((), "no checkp"),
    ],
)
def test_bad_input_is_one_line_and_touches_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    out = tmp_path / "out"
    assert run(monkeypatch, "--checkpoint", tmp_path / "missing", "--out", out, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_an_unknown_decoding_is_refused(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, "--checkpoint", tmp_path, "--decoding", "greedy") == 2
    assert "expectation" in "".join(capsys.readouterr())


def test_the_exit_code_reaches_the_shell(checkpoint, half_solved, monkeypatch):
    out = checkpoint.parent / "out"
    arguments = ("--checkpoint", checkpoint, "--out", out, "--num-episodes", "5", "--num-videos", "0")
    assert run(monkeypatch, *arguments, "--min-success", "0.9") == 1
    assert run(monkeypatch, *arguments, "--min-success", "0.4") == 0
