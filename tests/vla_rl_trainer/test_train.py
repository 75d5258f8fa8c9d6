"""SFT, GRPO, evaluations and the report as one command."""

import dataclasses
import json
from pathlib import Path

import pytest

from vla_policy.errors import VlaError
from vla_rl_trainer import collect, evaluate, pretrain, train, train_grpo, train_report, train_sft
from vla_rl_trainer.evaluation import Evaluation, Outcome
from vla_rl_trainer.learner import LearnerConfig
from vla_rl_trainer.report import Paragraph
from vla_rl_trainer.train import TrainConfig, libero, main


@pytest.fixture
def stages(monkeypatch, toys, tmp_path):
    """What each stage was called with, in order; results are made up, policies untrained."""
    called = []
    made = {}
    for number, name in enumerate(("base", "sft", "grpo", "later", "play")):
        made[name] = tmp_path / "made" / name / "checkpoints" / f"step_{number:06d}"
        toys.make_piper_policy(number).save(made[name])

    def stand_in(name, module):
        def run(config):
            called.append((name, config))
            return made["later" if name == "grpo" and config.num_steps == 99 else name]

        monkeypatch.setattr(module, "main", run)

    def evaluated(config):
        called.append(("evaluate", config))
        solved = 10 * int(config.checkpoint.name[-1])
        outcomes = [Outcome(task, seed, seed < solved, 9, ("pressed",)) for task in config.tasks for seed in range(40)]
        config.out.mkdir(parents=True)
        Evaluation.write(config.out / "evaluation.json", {"argmax": Evaluation("argmax", tuple(outcomes), ())})
        told = {"checkpoint_sha256": evaluate.weights_sha256(config.checkpoint)}
        (config.out / "summary.json").write_text(json.dumps(told))
        return 0

    def recorded(config):
        called.append(("collect", config))
        config.out.mkdir(parents=True)

    stand_in("play", pretrain)
    stand_in("sft", train_sft)
    stand_in("grpo", train_grpo)
    monkeypatch.setattr(evaluate, "main", evaluated)
    monkeypatch.setattr(collect, "main", recorded)
    monkeypatch.setattr(train_report, "film_side_by_side", lambda *_: Paragraph("films"))
    called.append(made)
    return called


def told(stages, name):
    return [config for stage, config in stages[1:] if stage == name]


def names(stages):
    return [name for name, _ in stages[1:]]


def test_each_stage_starts_from_the_one_before(stages, tmp_path):
    tasks = ("pick_bottle", "stack_bowls")
    config = TrainConfig(demos=(Path("data"),), model=Path("base"), tasks=tasks, out=tmp_path / "run", seed=3)
    assert main(config) == 0
    assert names(stages) == ["sft", "evaluate", "grpo", "evaluate"]
    (sft,), (grpo,), (before, after) = (told(stages, name) for name in ("sft", "grpo", "evaluate"))
    assert (sft.dataset, sft.checkpoint, sft.preset, sft.seed) == ((Path("data"),), Path("base"), None, 3)
    assert (grpo.checkpoint, grpo.seed) == (stages[0]["sft"], 3)
    assert (before.checkpoint, after.checkpoint) == (stages[0]["sft"], stages[0]["grpo"])
    assert {grpo.tasks, before.tasks, after.tasks} == {tasks}
    folders = [one.out.relative_to(config.out).as_posix() for one in (sft, before, grpo, after)]
    assert folders == ["sft", "evaluate/before-step_000001", "grpo", "evaluate/after-step_000002"]


def test_the_report_compares_before_and_after_task_by_task(stages, tmp_path):
    config = TrainConfig(model=stages[0]["sft"], tasks=("pick_bottle", "stack_bowls"), out=tmp_path / "run")
    main(config)
    summary = json.loads((config.out / "summary.json").read_text())
    assert (summary["before"]["success_rate"], summary["after"]["success_rate"]) == (0.25, 0.5)
    assert summary["after"]["tasks"]["stack_bowls"]["num_successes"] == 20
    assert summary["randomization"] == "off"
    page = (config.out / "report.html").read_text()
    for text in ("25.0% before RL, 50.0% after", "pick_bottle", "stack_bowls", "all", "pressed", "films"):
        assert text in page


def test_a_finished_run_does_nothing_again_and_goes_on_when_asked_for_more_steps(stages, toys, tmp_path):
    config = TrainConfig(model=stages[0]["sft"], out=tmp_path / "run")
    main(config)
    before = toys.tree_of(config.out)
    del stages[1:]
    main(config)
    assert names(stages) == ["grpo"]  # which sees for itself that it is finished
    assert toys.tree_of(config.out) == before
    main(dataclasses.replace(config, grpo_steps=99))
    assert names(stages) == ["grpo", "grpo", "evaluate"]
    assert json.loads((config.out / "summary.json").read_text())["after"]["success_rate"] == 0.75


def test_without_demonstrations_a_fine_tuned_model_goes_straight_to_rl(stages, tmp_path):
    main(TrainConfig(model=stages[0]["sft"], preset="paper", out=tmp_path / "run", num_groups=3))
    assert names(stages) == ["evaluate", "grpo", "evaluate"]
    (grpo,) = told(stages, "grpo")
    assert (grpo.checkpoint, grpo.num_steps, grpo.num_groups) == (stages[0]["sft"], 300, 3)
    assert grpo.learner == train_grpo.paper(stages[0]["sft"]).learner
    main(TrainConfig(model=stages[0]["sft"], learner=LearnerConfig(micro_batch=9), out=tmp_path / "other"))
    assert told(stages, "grpo")[1].learner == LearnerConfig(micro_batch=9)


def test_demonstrations_are_recorded_once_where_a_number_is_given(stages, tmp_path):
    config = TrainConfig(num_demos=4, tasks=("pick_bottle",), model=stages[0]["base"], out=tmp_path / "run", seed=2)
    main(config)
    main(config)
    (recorded,) = told(stages, "collect")
    assert (recorded.tasks, recorded.num_demos, recorded.first_seed) == (("pick_bottle",), 4, 2000)
    assert {sft.dataset for sft in told(stages, "sft")} == {(config.out / "demonstrations",)}
    assert told(stages, "sft")[0].checkpoint == stages[0]["base"]


def test_libero_records_its_own_demonstrations_at_the_size_the_policy_wants(stages, tmp_path, monkeypatch):
    recorded = []
    monkeypatch.setattr("vla_rl_trainer.libero.collect.main", recorded.append)
    for size, side in (("tiny", 128), ("small", 128)):
        config = dataclasses.replace(libero(), model=Path(size), tasks=("libero_goal/3",), out=tmp_path / size, seed=4)
        train._fine_tuned(config)
        told = recorded.pop()
        assert (told.suites, told.num_demos, told.first_seed, told.image_size) == (("libero_goal/3",), 10, 4, side)
        assert told.out == config.out / "demonstrations"


def test_a_fresh_network_plays_first_where_it_is_not_tested(stages, tmp_path):
    config = dataclasses.replace(libero(), tasks=("libero_goal/3", "libero_10"), demos=(Path("data"),), out=tmp_path)
    train._fine_tuned(config)
    (play,), (sft,) = told(stages, "play"), told(stages, "sft")
    assert (play.suites, play.preset, play.num_episodes) == (("libero_spatial", "libero_object"), "small", 2000)
    assert play.out == tmp_path / "play"
    assert (sft.checkpoint, sft.preset) == (stages[0]["play"], None)


@pytest.mark.parametrize(
    "given",
    [
        {"model": None},
        {"model": Path("runs/x")},
        {"tasks": ("click_bell",)},
        {"tasks": ("libero_object", "libero_spatial", "libero_goal", "libero_10")},
    ],
)
def test_who_cannot_play_first_is_told(given):
    with pytest.raises(VlaError, match="play comes before a fresh network of LIBERO's learns a task"):
        dataclasses.replace(libero(), **given)


def test_a_size_in_place_of_a_model_is_a_fresh_network(stages, tmp_path):
    main(TrainConfig(demos=(Path("data"),), model=Path("tiny"), out=tmp_path / "run"))
    (sft,) = told(stages, "sft")
    assert (sft.checkpoint, sft.preset) == (None, "tiny")


def test_evaluation_alone_trains_nothing(stages, tmp_path):
    config = TrainConfig(model=stages[0]["grpo"], eval_only=True, out=tmp_path / "run")
    assert main(config) == 0
    assert names(stages) == ["evaluate"]
    assert not (config.out / "report.html").exists()


def test_both_policies_are_evaluated_under_every_perturbation(stages, tmp_path, monkeypatch):
    monkeypatch.setattr("vla_rl_trainer.benchmarks.libero.LiberoBenchmark._compiled", lambda _: {})
    config = dataclasses.replace(
        libero(),
        model=stages[0]["sft"],
        play_episodes=0,
        num_demos=0,
        tasks=("libero_object/3",),
        perturbations=("camera", "pose"),
    )
    config = dataclasses.replace(config, out=tmp_path / "run")
    main(config)
    levels = [(one.checkpoint.name, one.libero.perturbation) for one in told(stages, "evaluate")]
    assert levels == [(step, level) for step in ("step_000001", "step_000002") for level in ("none", "camera", "pose")]
    summary = json.loads((config.out / "summary.json").read_text())
    assert summary["perturbed"]["camera"]["after"]["success_rate"] == 0.5
    assert "Perturbed worlds" in (config.out / "report.html").read_text()
    assert told(stages, "grpo")[0].libero.perturbation == "none"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give --demos to fine-tune on, or a fine-tuned --model, or --num-demos"),
        ({"model": Path("small")}, "give --demos to fine-tune on"),
        ({"eval_only": True}, "give the folder of a policy by --model"),
        ({"eval_only": True, "model": Path("small")}, "give the folder of a policy by --model"),
        ({"num_demos": -1}, "num_demos is -1"),
        ({"model": Path("x"), "grpo_steps": 0}, "grpo_steps is 0"),
        ({"model": Path("x"), "tasks": ("click_bell", "libero_goal")}, "train them in two runs"),
        ({"model": Path("x"), "perturbations": ("camera",)}, "perturbations are LIBERO's camera, light, pose, all"),
        ({"model": Path("x"), "tasks": ("libero_goal",), "perturbations": ("noise",)}, "perturbations are LIBERO's"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_remedy(fields, message):
    with pytest.raises(VlaError, match=message):
        TrainConfig(**fields)


def test_without_resume_a_folder_that_exists_is_left_alone(stages, tmp_path):
    with pytest.raises(VlaError, match="already exists; choose another --out, or go on with it by --resume"):
        main(TrainConfig(model=Path("mine"), out=tmp_path, resume=False))
    assert not names(stages)
