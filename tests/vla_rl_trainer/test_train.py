"""SFT, GRPO and evaluation as one command."""

from pathlib import Path

import pytest

from vla_policy.errors import VlaError
from vla_rl_trainer import evaluate, train_grpo, train_sft
from vla_rl_trainer.train import TrainConfig, main


@pytest.fixture
def stages(monkeypatch):
    """The configuration each stage was called with; none is run."""
    called = {}

    def stand_in(name, module, result):
        def run(config):
            called[name] = config
            return result

        monkeypatch.setattr(module, "main", run)

    stand_in("sft", train_sft, Path("sft/checkpoints/step_000150"))
    stand_in("grpo", train_grpo, Path("grpo/checkpoints/step_000020"))
    stand_in("evaluate", evaluate, 0)
    return called


def test_each_stage_starts_from_the_one_before(stages, tmp_path):
    tasks = ("pick_bottle", "stack_bowls")
    config = TrainConfig(demos=(Path("data"),), model=Path("base"), tasks=tasks, out=tmp_path / "run", seed=3)
    assert main(config) == 0
    assert (stages["sft"].dataset, stages["sft"].checkpoint, stages["sft"].seed) == ((Path("data"),), Path("base"), 3)
    assert (stages["grpo"].checkpoint, stages["grpo"].seed) == (Path("sft/checkpoints/step_000150"), 3)
    assert stages["evaluate"].checkpoint == Path("grpo/checkpoints/step_000020")
    assert {stages["grpo"].tasks, stages["evaluate"].tasks} == {tasks}
    assert [stages[name].out for name in stages] == [tmp_path / "run" / name for name in ("sft", "grpo", "evaluate")]


def test_without_demonstrations_a_fine_tuned_model_goes_straight_to_rl(stages):
    main(TrainConfig(model=Path("mine"), preset="paper"))
    assert "sft" not in stages
    assert (stages["grpo"].checkpoint, stages["grpo"].num_groups) == (Path("mine"), 64)


def test_a_base_without_demonstrations_is_refused_with_the_remedy():
    with pytest.raises(VlaError, match="give --demos to fine-tune on, or a fine-tuned --model"):
        TrainConfig()


def test_without_resume_a_folder_that_exists_is_left_alone(stages, tmp_path):
    with pytest.raises(VlaError, match="already exists; choose another --out, or go on with it by --resume"):
        main(TrainConfig(model=Path("mine"), out=tmp_path, resume=False))
    assert not stages
