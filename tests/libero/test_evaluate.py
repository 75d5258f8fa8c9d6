"""An untrained policy from checkpoint to table; what it says of states, renderer and assets."""

import dataclasses
import json

import numpy as np
import pytest

from vla_policy.errors import VlaError
from vla_policy.normalization import DatasetStatistics, Statistics
from vla_policy.policy import VlaPolicy
from vla_policy.presets import tiny
from vla_policy.prompt import train_tokenizer
from vla_rl_trainer.benchmarks.libero import LiberoOptions
from vla_rl_trainer.evaluate import EvaluateConfig, main
from vla_rl_trainer.libero import evaluate
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.libero.evaluate import LiberoEvaluateConfig
from vla_rl_trainer.run_files import read_config


@pytest.fixture
def checkpoint(tmp_path):
    whole = Statistics.of(np.linspace([-1.0] * 7, [1.0] * 7, 11))
    statistics = DatasetStatistics(action=whole, proprio=whole, num_transitions=11, num_trajectories=1)
    network = dataclasses.replace(tiny(LIBERO_PANDA), action_frame="absolute")
    texts = ["pick up the alphabet soup and place it in the basket"]
    policy = VlaPolicy.create(network, LIBERO_PANDA, statistics, train_tokenizer(texts))
    policy.save(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_the_split_decides_how_many_episodes_there_are(tmp_path):
    config = LiberoEvaluateConfig(checkpoint=tmp_path)
    assert (config.evaluation.num_episodes, len(config.evaluation.benchmark.tasks)) == (20, 40)
    assert dataclasses.replace(config, states="official").evaluation.num_episodes == 50
    chosen = ("libero_goal/3", "libero_10/0")
    assert dataclasses.replace(config, suites=chosen).evaluation.benchmark.tasks == chosen


@pytest.mark.parametrize("suites", [(), ("libero_goal", "libero_goal/3"), ("libero_goal/x",)])
def test_suites_that_cannot_be_evaluated_are_refused(suites, tmp_path):
    with pytest.raises(VlaError):
        LiberoEvaluateConfig(checkpoint=tmp_path, suites=suites)


@pytest.mark.libero
@pytest.mark.patience(600)
def test_perturbed_worlds_are_evaluated_and_said_to_be(checkpoint, tmp_path, cache):
    config = EvaluateConfig(
        checkpoint=checkpoint,
        out=tmp_path / "run",
        tasks=("libero_object/0",),
        num_episodes=2,
        num_videos=0,
        libero=LiberoOptions(perturbation="all", cache=cache),
    )
    assert main(config) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["perturbation"] == "all"
    assert "perturbed: all" in (tmp_path / "run" / "report.html").read_text()
    assert read_config(tmp_path / "run")["libero"]["perturbation"] == "all"


@pytest.mark.libero
@pytest.mark.patience(600)
def test_a_checkpoint_is_evaluated_from_states_training_never_sees(checkpoint, tmp_path, cache, capsys):
    config = LiberoEvaluateConfig(
        checkpoint=checkpoint, out=tmp_path / "run", suites=("libero_object/0",), max_episodes=2, cache=cache
    )
    assert evaluate.main(config) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["num_episodes"] == 2
    assert (summary["states"], summary["visuals"]) == ("held_out", "lean")
    assert len(summary["assets"]) == 1
    assert summary["tasks"]["libero_object/0"]["instruction"] == "pick up the alphabet soup and place it in the basket"
    assert summary["suites"]["libero_object"]["num_episodes"] == 2
    assert "held-out states" in (tmp_path / "run" / "report.html").read_text()
    assert "libero_object" in capsys.readouterr().out
