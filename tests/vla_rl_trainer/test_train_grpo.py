"""GRPO from start to end: it resumes exactly, refuses what cannot work, and says when there is nothing to learn."""

import contextlib
import dataclasses
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vla_policy.errors import VlaError
from vla_rl_trainer import grpo_trainer
from vla_rl_trainer.benchmarks import twin
from vla_rl_trainer.group_collector import GroupConfig
from vla_rl_trainer.learner import LearnerConfig
from vla_rl_trainer.run_files import read_metrics
from vla_rl_trainer.surplus import load_groups
from vla_rl_trainer.train_grpo import TrainGrpoConfig, main, ours, paper

MIXED = ("1010", "0110", "1001", "0000", "1111")
LEARNER = LearnerConfig(learning_rate=1e-3, num_minibatches=2)


@pytest.fixture
def scripted(monkeypatch, toys, quick_trackers, tmp_path):
    """The scripted simulation in place of the twin: give it a script, get the configuration of a short run."""
    toys.make_policy().save(tmp_path / "policy")
    monkeypatch.setattr(twin.TwinBenchmark, "embodiment", toys.ROBOT)

    def configure(script, **changes):
        def make(num_slots, config, *, num_workers):
            assert config.image_size == toys.NETWORK.image_size
            return contextlib.closing(toys.ScriptedEnv(num_slots, script))

        monkeypatch.setattr(twin, "TwinVectorEnv", make)
        given = dict(
            checkpoint=tmp_path / "policy", out=tmp_path / "run", num_steps=2, num_groups=2, num_slots=32, seed=1
        )  # with seed 1 the groups' worlds are others than those of the preflight, whose tries are counted too
        given |= dict(group=GroupConfig(group_size=4, max_groups=8), learner=LEARNER)
        return TrainGrpoConfig(**(given | changes))

    return configure


def files_of(checkpoint):
    return {path.name: path.read_bytes() for path in checkpoint.iterdir()}


@pytest.mark.parametrize("cohorts", [1, 2])
def test_two_steps_and_two_more_after_a_restart_equal_four(scripted, toys, tmp_path, cohorts):
    both = {"tasks": ("click_bell", "pick_bottle"), "num_cohorts": cohorts}
    script = toys.pattern(*MIXED)
    unbroken = main(scripted(script, out=tmp_path / "unbroken", num_steps=4, **both))
    first = main(scripted(script, num_steps=2, **both))
    assert load_groups(first / "surplus.safetensors"), "the run must be stopped with groups in hand"
    resumed = main(scripted(script, num_steps=4, **both))
    assert (first.name, resumed.name, unbroken.name) == ("step_000002", "step_000004", "step_000004")
    curves = [toys.without_times(read_metrics(folder.parents[1])) for folder in (unbroken, resumed)]
    assert curves[0] == curves[1]
    assert [line["step"] for line in curves[0]] == [0, 1, 2, 3]
    assert files_of(resumed) == files_of(unbroken)  # weights, moments, numbers and surplus, bit for bit
    assert files_of(first)["model.safetensors"] != files_of(resumed)["model.safetensors"]


def test_a_finished_run_is_not_trained_again(scripted, toys):
    config = scripted(toys.pattern(*MIXED))
    last = main(config)
    before = toys.tree_of(config.out)
    assert main(config) == last
    before[".lock"] = toys.tree_of(config.out)[".lock"]
    assert toys.tree_of(config.out) == before


def test_metrics_have_the_names_of_the_literature(scripted, toys):
    config = scripted(toys.pattern(*MIXED))
    main(config)
    line = read_metrics(config.out)[0]
    learner = {"loss", "approx_kl", "clipfrac", "entropy", "grad_norm", "sampler_learner_gap", "staleness"}
    rollout = {"reward/mean", "rollout/episodes", "rollout/control_steps", "group/kept", "group/dropped"}
    assert learner | rollout | {"task/click_bell/share", "time/rollout_s", "time/update_s"} <= line.keys()
    assert line["sampler_learner_gap"] < 1e-3
    assert 0 < line["reward/mean"] < 1
    dropped = ("all_solved", "all_failed")
    assert line["group/dropped"] == sum(line[f"group/{name}"] for name in dropped)


def test_a_policy_that_solves_nothing_is_refused_with_advice_and_bars_nothing(scripted, toys, tmp_path):
    with pytest.raises(VlaError) as refused:
        main(scripted(toys.pattern("0000"), tasks=("click_bell", "stack_bowls")))
    message = str(refused.value)
    assert "policy solved 0 of 64 episodes of click_bell, stack_bowls" in message
    assert "record more demonstrations or fine-tune longer" in message
    toys.make_policy(seed=3).save(tmp_path / "better")
    main(scripted(toys.pattern(*MIXED), checkpoint=tmp_path / "better"))  # the same --out


def test_a_run_stops_early_at_its_target_and_stays_there(scripted, toys):
    script = toys.pattern("1110", "1101")
    group = GroupConfig(group_size=4, stop_decided=False, carry_surplus=False)
    config = scripted(script, num_steps=9, target_success=0.7, group=group)
    last = main(config)
    rewards = [line["reward/mean"] for line in read_metrics(config.out)]
    assert rewards == [0.75, 0.75]
    assert last.name == "step_000002"
    assert main(config) == last
    assert len(read_metrics(config.out)) == 2


def only_in_preflight(toys, later):
    """Success in the preflight's worlds, `later` in those of the groups."""
    return lambda episode, attempt: toys.Part(success=episode.seed < 64 or later)


@pytest.mark.parametrize(
    ("later", "message"),
    [
        (True, "none of 8 groups was informative at a success rate of 100%: .* give harder tasks"),
        (False, "none of 8 groups was informative at a success rate of 0%: .* record more demonstrations"),
    ],
)
def test_a_step_without_informative_groups_ends_with_what_to_do(scripted, toys, later, message):
    config = scripted(only_in_preflight(toys, later))
    with pytest.raises(VlaError, match=message):
        main(config)
    assert read_metrics(config.out)[0]["group/kept"] == 0


def test_nothing_left_to_learn_is_the_end_where_the_target_is_reached(scripted, toys):
    config = scripted(only_in_preflight(toys, True), num_steps=9, target_success=0.9)
    assert main(config).name == "step_000001"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "evaluation"}, "spoil every evaluation; use --split train"),
        ({"split": "test"}, "split 'test' does not exist; choose one of train"),
        ({"tasks": ("click_bel",)}, "task 'click_bel' does not exist; .*click_bell"),
        ({"tasks": ()}, "name at least one with --tasks"),
        ({"num_steps": -1}, "num_steps is -1; give at least 1"),
        ({"num_groups": 0}, "num_groups is 0; give at least 1"),
        ({"num_slots": -8}, "num_slots is -8"),
        ({"num_workers": 0}, "num_workers is 0"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"target_success": 95.0}, "target_success is 95.0; give at most 1.0"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(change, message):
    with pytest.raises(VlaError, match=message):
        TrainGrpoConfig(checkpoint=Path("x"), **change)


def test_another_configuration_in_the_same_folder_is_refused_and_nothing_is_touched(scripted, toys):
    config = scripted(toys.pattern(*MIXED))
    main(config)
    before = toys.tree_of(config.out)
    with pytest.raises(VlaError, match=r"was made with temperature = 1.6, now temperature = 1.2 is asked for"):
        main(dataclasses.replace(config, temperature=1.2))
    assert toys.tree_of(config.out) == before


def test_a_damaged_checkpoint_says_which_to_delete_and_the_one_before_serves(scripted, toys):
    config = scripted(toys.pattern(*MIXED), checkpoint_every=1)
    last = main(config)
    whole = files_of(last)
    (last / "optimizer.safetensors").write_bytes(whole["optimizer.safetensors"][:1000])
    with pytest.raises(VlaError, match=r"step_000002 cannot be resumed from .*; delete that checkpoint"):
        main(config)
    shutil.rmtree(last)
    assert files_of(main(config)) == whole


def test_the_paper_preset_has_the_numbers_of_simplevla_rl():
    config = paper(Path("x"))
    assert (config.num_groups, config.group.group_size, config.temperature) == (64, 8, 1.6)
    assert (config.group.lower_bound, config.group.upper_bound) == (0.1, 0.9)
    assert not (config.group.stop_decided or config.group.carry_surplus)
    assert config.uniform_tasks
    learner = config.learner
    assert (learner.learning_rate, learner.weight_decay, learner.max_grad_norm) == (5e-6, 0.01, 1.0)
    assert (learner.loss.clip_low, learner.loss.clip_high) == (0.2, 0.28)
    assert config.num_groups * config.group.group_size / learner.num_minibatches == 128
    assert (learner.num_minibatches, learner.num_epochs, learner.chunk_fraction) == (4, 1, 1.0)
    assert not learner.shuffle


def test_our_preset_has_what_the_paper_lists_as_improvements():
    config = ours(Path("x"))
    assert config.group.stop_decided
    assert config.group.carry_surplus
    assert not config.uniform_tasks


# From here on with the twin itself, made short.


def short_run(out, policy, **changes):
    """With so few slots no step can do with the surplus of the one before."""
    given = dict(checkpoint=policy, out=out, num_steps=4, num_groups=4, num_slots=6, num_workers=1, checkpoint_every=2)
    given |= dict(group=GroupConfig(group_size=4), learner=LEARNER)
    return TrainGrpoConfig(**(given | changes))


@contextlib.contextmanager
def short_twin(env):
    """Few episodes in the preflight, no TensorBoard, `env` in place of the twin."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin, "TwinVectorEnv", env)
        patch.setattr(grpo_trainer, "PREFLIGHT_EPISODES", 6)
        patch.setattr("vla_rl_trainer.run_folder.make_trackers", lambda folder, config: [])
        yield


@pytest.fixture(scope="module")
def unbroken(toys, tmp_path_factory):
    """The policy's folder, and the run folder of four steps with one worker."""
    folder = tmp_path_factory.mktemp("grpo")
    toys.make_piper_policy().save(folder / "policy")
    with short_twin(toys.ShortTwin):
        main(short_run(folder / "run", folder / "policy"))
    return folder / "policy", folder / "run"


def require_same_run(toys, one, other):
    assert toys.without_times(read_metrics(one)) == toys.without_times(read_metrics(other))
    assert files_of(one / "checkpoints" / "step_000004") == files_of(other / "checkpoints" / "step_000004")


@pytest.mark.sim
def test_two_workers_give_the_run_of_one(toys, unbroken, tmp_path):
    policy, run = unbroken
    assert {line["group/kept"] for line in read_metrics(run)} == {4}
    with short_twin(toys.ShortTwin):
        main(short_run(tmp_path / "run", policy, num_workers=2))
    require_same_run(toys, run, tmp_path / "run")


KILLED = """
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location("toys", sys.argv[1])
toys = importlib.util.module_from_spec(spec)
sys.modules["toys"] = toys
spec.loader.exec_module(toys)
spec = importlib.util.spec_from_file_location("here", sys.argv[2])
here = importlib.util.module_from_spec(spec)
spec.loader.exec_module(here)

class Doomed(toys.ShortTwin):
    calls = 0

    def step_chunk(self, slots, actions):
        self.calls += bool(trainer) and trainer[0].step == 3
        if self.calls == 3:
            print(*(worker.process_id for worker in self._workers), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step_chunk(slots, actions)

trainer = []
train_step = here.grpo_trainer.GrpoTrainer.train_step
here.grpo_trainer.GrpoTrainer.train_step = lambda self: trainer.append(self) or train_step(self)
with here.short_twin(Doomed):
    here.main(here.short_run(here.Path(sys.argv[3]), here.Path(sys.argv[4])))
"""


@pytest.mark.sim
def test_a_run_killed_in_the_middle_of_a_step_and_resumed_equals_an_unbroken_one(toys, unbroken, tmp_path):
    policy, run = unbroken
    here = Path(__file__)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    child = subprocess.run(
        [sys.executable, "-c", KILLED, here.with_name("conftest.py"), here, tmp_path / "run", policy],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert len(read_metrics(tmp_path / "run")) == 3  # the last of them is after the checkpoint
    assert not (tmp_path / "run" / "checkpoints" / "step_000004").exists()
    deadline = time.monotonic() + 60.0
    while any(Path(f"/proc/{pid}").exists() for pid in child.stdout.split()):
        assert time.monotonic() < deadline, "the workers outlived their trainer"
        time.sleep(0.05)
    with short_twin(toys.ShortTwin):
        main(short_run(tmp_path / "run", policy))
    require_same_run(toys, run, tmp_path / "run")


@pytest.mark.sim
def test_a_worker_that_dies_in_the_middle_of_a_step_does_not_end_the_run(toys, unbroken, tmp_path):
    envs = []

    class Doomed(toys.ShortTwin):
        calls = 0

        def step_chunk(self, slots, actions):
            self.calls += 1
            if self.calls == 4:  # the preflight takes two
                envs.append(self)
                os.kill(self._workers[1].process_id, signal.SIGKILL)
            return super().step_chunk(slots, actions)

    with short_twin(Doomed):
        main(short_run(tmp_path / "run", unbroken[0], num_steps=2, num_workers=2))
    assert envs[0].num_restarts == 1
    lines = read_metrics(tmp_path / "run")
    assert [line["group/kept"] for line in lines] == [4, 4]
    assert 0 < lines[0]["rollout/dropped_episodes"] <= 3
    assert lines[1]["rollout/dropped_episodes"] == 0
    assert all(math.isfinite(line["loss"]) for line in lines)
