"""The demo from start to end, as small as it can be: two demonstrations, three steps, four episodes, one video."""

import base64
import dataclasses
import io
import json
import re
import shutil
from types import SimpleNamespace

import av
import pytest

from vla_policy.errors import VlaError
from vla_rl_trainer import demo, grpo_trainer
from vla_rl_trainer.benchmarks import twin
from vla_rl_trainer.demo import DemoConfig, main
from vla_rl_trainer.evaluation import Evaluation, EvaluationConfig
from vla_rl_trainer.grpo_trainer import GrpoTrainer
from vla_rl_trainer.learner import LearnerConfig
from vla_rl_trainer.run_files import read_metrics
from vla_rl_trainer.sft import SftConfig

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def little(toys):
    """Two-chunk episodes with successes by luck, few in the preflight, no TensorBoard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin, "TwinVectorEnv", toys.ShortTwin)
        patch.setattr(grpo_trainer, "PREFLIGHT_EPISODES", 8)
        patch.setattr("vla_rl_trainer.run_folder.make_trackers", lambda folder, config: [])
        yield


@pytest.fixture(scope="module")
def finished(little, tmp_path_factory):
    """Configuration and summary of a demo that ran unbroken."""
    config = DemoConfig(
        out=tmp_path_factory.mktemp("demo") / "run",
        num_demos=2,
        sft=SftConfig(num_steps=3, batch_size=4),
        grpo_steps=2,
        num_groups=2,
        learner=LearnerConfig(num_minibatches=2),
        evaluation=EvaluationConfig(num_episodes=4),
        num_graph_trials=0,
        num_videos=1,
        num_workers=2,
    )
    return config, main(config)


def without_clock(summary):
    times = ("wall_s", "stages_s", "env_steps_per_s", "date")
    return {name: value for name, value in summary.items() if name not in times}


def test_the_summary_has_every_figure_the_issue_asks_for(finished):
    config, returned = finished
    summary = json.loads((config.out / "summary.json").read_text())
    assert summary == returned
    assert (summary["task"], summary["num_demos"], summary["seed"]) == ("click_bell", 2, 0)
    for stage in ("sft", "rl"):
        figures = summary[stage]
        assert figures["num_episodes"] == 4
        assert 0.0 <= figures["ci95"][0] <= figures["success_rate"] <= figures["ci95"][1] <= 1.0
        assert 0.0 <= figures["greedy_success_rate"] <= 1.0
    assert summary["rl"]["num_training_episodes"] > 0
    assert summary["wall_s"] == pytest.approx(sum(summary["stages_s"].values()))
    assert set(summary["stages_s"]) == {"collect", "sft", "evaluate_sft", "grpo", "evaluate_rl", "videos", "graph"}
    assert summary["graph"] == {}
    assert summary["env_steps_per_s"] > 0
    assert summary["commit"]


def test_both_policies_are_evaluated_on_the_same_held_out_worlds(finished):
    config, summary = finished
    before, after = (Evaluation.read(config.out / f"evaluation_{name}.json") for name in ("sft", "rl"))
    assert set(before) == set(after) == {summary["rl"]["decoding"], "argmax"}
    seeds = {tuple(one.seed for one in evaluation.outcomes) for each in (before, after) for evaluation in each.values()}
    assert seeds == {(0, 1, 2, 3)}


def test_the_report_is_one_page_that_asks_for_nothing_and_holds_the_videos(finished):
    config, _ = finished
    page = (config.out / "report.html").read_text()
    assert not re.search(r"https?://", page)
    assert "<script" not in page
    assert "<link" not in page
    films = re.findall(r'src="data:video/mp4;base64,([^"]+)"', page)
    assert len(films) == 2  # one world, before and after
    assert not re.search(r'(src|href)="(?!data:)', page)
    for film in films:
        with av.open(io.BytesIO(base64.b64decode(film))) as container:
            assert sum(1 for _ in container.decode(video=0)) > 10
    for text in ("after SFT", "after RL", "reward/mean", "world 0, after RL", "num_demos"):
        assert text in page


def test_a_second_start_runs_nothing_again_and_gives_the_same_summary(finished, toys, monkeypatch, capsys):
    config, summary = finished
    before = toys.tree_of(config.out)
    for name in ("TwinVectorEnv", "FilmStudio"):
        monkeypatch.setattr(twin, name, lambda *_, **__: pytest.fail("something was run again"))
    assert main(config) == summary
    assert "click_bell: 2 demonstrations, seed 0" in capsys.readouterr().out
    after = toys.tree_of(config.out)
    assert after == before | {".lock": after[".lock"]}


def test_another_configuration_in_the_same_folder_is_refused_and_nothing_is_touched(finished, toys):
    config, _ = finished
    before = toys.tree_of(config.out)
    with pytest.raises(VlaError, match=r"was made with seed = 0, now seed = 1 is asked for; choose another --out"):
        main(dataclasses.replace(config, seed=1))
    assert toys.tree_of(config.out) == before


def test_a_demo_stopped_in_the_middle_of_grpo_and_resumed_equals_an_unbroken_one(finished, toys, tmp_path, monkeypatch):
    """In the very folder of the unbroken one, whose stages up to GRPO are kept: paths are part of configurations."""
    config, summary = finished
    unbroken = tmp_path / "unbroken"
    shutil.copytree(config.out, unbroken)
    shutil.rmtree(config.out / "grpo")
    for name in ("evaluation_rl.json", "summary.json", "report.html"):
        (config.out / name).unlink()
    train_step = GrpoTrainer.train_step

    def stopped(trainer):
        if trainer.step == 1:
            raise KeyboardInterrupt
        return train_step(trainer)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(GrpoTrainer, "train_step", stopped)
        main(config)
    assert len(read_metrics(config.out / "grpo")) == 1
    assert not (config.out / "summary.json").exists()

    resumed = main(config)
    assert without_clock(resumed) == without_clock(summary)
    assert resumed["wall_s"] > summary["wall_s"], "what was spent before the interruption counts too"
    curves = [toys.without_times(read_metrics(folder / "grpo")) for folder in (unbroken, config.out)]
    assert curves[0] == curves[1]
    last = "grpo/checkpoints/step_000002/model.safetensors"
    for name in ("evaluation_sft.json", "evaluation_rl.json", last):
        assert (config.out / name).read_bytes() == (unbroken / name).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "click_bel"}, "task 'click_bel' does not exist"),
        ({"num_demos": -4}, "num_demos is -4; give at least 1"),
        ({"grpo_steps": 0}, "grpo_steps is 0"),
        ({"num_groups": 0}, "num_groups is 0"),
        ({"num_videos": -1}, "num_videos is -1"),
        ({"num_workers": 0}, "num_workers is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"target_success": 1.5}, "target_success is 1.5"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_before_the_first_stage(change, message):
    with pytest.raises(VlaError, match=message):
        DemoConfig(**change)


def test_what_the_graph_cannot_run_is_told_and_costs_nothing_of_the_result(monkeypatch, tmp_path):
    def run_trials(arguments, num_trials, out, seconds_each):
        assert (arguments["checkpoint"], arguments["task"], num_trials) == (tmp_path / "policy", "click_bell", 5)
        if arguments.get("emulate"):
            raise VlaError("no arm answers")
        return {"policies": {"rl": {"sim": {"num_successes": 4, "num_episodes": 5}}}}

    monkeypatch.setattr(demo, "run_trials", run_trials)
    monkeypatch.setattr(demo, "has_ros", lambda: True)
    config = DemoConfig(out=tmp_path / "run")
    stages = demo.Demo(config, SimpleNamespace(path=config.out))
    found = stages._through_the_graph(tmp_path / "policy")
    assert found == {"sim": {"num_successes": 4, "num_episodes": 5}, "emulated": {"error": "no arm answers"}}
