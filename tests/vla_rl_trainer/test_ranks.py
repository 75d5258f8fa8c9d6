"""Two processes that share a run learn what one would, whether their weights are cut up or the same in both."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vla_policy import checkpoint
from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy
from vla_rl_trainer import ranks, sharding, train_grpo
from vla_rl_trainer.benchmarks import twin
from vla_rl_trainer.group_collector import GroupConfig
from vla_rl_trainer.learner import LearnerConfig, make_optimizer, update
from vla_rl_trainer.optimizer import parameters
from vla_rl_trainer.run_files import read_metrics
from vla_rl_trainer.surplus import pack, unpack
from vla_rl_trainer.trainable import LoraConfig
from vla_rl_trainer.training_state import load_state, save_state

CONFIG = LearnerConfig(learning_rate=1e-3, num_minibatches=3, micro_batch=4, chunk_fraction=0.7, max_grad_norm=0.1)
KINDS = {
    "ours": CONFIG,
    "openvla": CONFIG,
    "recomputed": dataclasses.replace(CONFIG, recompute=True),
    "adapters": dataclasses.replace(CONFIG, lora=LoraConfig(rank=4)),
}


def learn(folder, kind, step, policy, optimizer):
    """One update on this process's share of the groups on disk."""
    here = ranks.here()
    groups = unpack((folder / f"{kind}.groups").read_bytes())[here.own :: here.count]
    return update(policy, optimizer, groups, 1.6, KINDS[kind], np.random.default_rng(step))


def learn_and_resume(folder, out):
    """Two updates of every kind, and the second once more after a restart; to be run by one process or by several."""
    here = ranks.join()
    for kind, config in KINDS.items():
        results = {}
        policy = VlaPolicy.load(folder / kind)
        optimizer = make_optimizer(policy, config)
        results["own"] = sum(sharding.own_part(weight).numel() for weight in parameters(optimizer))
        results["all"] = sum(weight.numel() for weight in parameters(optimizer))
        results["first"] = learn(folder, kind, 1, policy, optimizer)
        if here.is_first:
            policy.save(out / kind / "1")
        ranks.wait()
        save_state(out / kind / "1", optimizer, {"rank": here.own})
        results["second"] = learn(folder, kind, 2, policy, optimizer)
        if here.is_first:
            policy.save(out / kind / "2")
        ranks.wait()
        resumed = VlaPolicy.load(folder / kind)
        optimizer = make_optimizer(resumed, config)
        resumed.restore(out / kind / "1")
        results["number"] = load_state(out / kind / "1", optimizer)["rank"]
        results["again"] = learn(folder, kind, 2, resumed, optimizer)
        weights = zip(policy.whole.parameters(), resumed.whole.parameters(), strict=True)
        results["same"] = all(torch.equal(one, other) for one, other in weights)
        (out / f"{kind}-{here.own}.json").write_text(json.dumps(results))


def run_grpo(toys, folder, kind, num_steps, **changes):
    """Some steps of GRPO in a scripted simulation, in every process another."""
    robot = toys.ROBOT if kind == "ours" else toys.HAND
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(twin.TwinBenchmark, "embodiment", robot)
        patch.setattr("vla_rl_trainer.run_folder.make_trackers", lambda folder, config: [])

        def make(num_slots, config, *, num_workers):
            script = toys.pattern("1010", "0110", "1001", "0000", "1111")
            return contextlib.closing(toys.ScriptedEnv(num_slots, script, robot))

        patch.setattr(twin, "TwinVectorEnv", make)
        given = {"checkpoint": folder / kind, "num_slots": 12, "num_groups": 3, "num_steps": num_steps, "seed": 1}
        given |= {"group": GroupConfig(group_size=4, max_groups=9), "learner": KINDS[kind], "checkpoint_every": 1}
        return train_grpo.main(train_grpo.TrainGrpoConfig(**(given | changes)))


def run_grpo_twice(toys, folder, out):
    """Three steps in one go, and in two; at once and after a restart."""
    for kind in ("ours", "adapters"):
        run_grpo(toys, folder, kind, 3, out=out / kind / "unbroken")
        run_grpo(toys, folder, kind, 1, out=out / kind / "resumed")
        run_grpo(toys, folder, kind, 3, out=out / kind / "resumed")


WORKER = """
import importlib.util, pathlib, sys
modules = []
for name, path in (("toys", sys.argv[1]), ("here", sys.argv[2])):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    modules.append(sys.modules[name])
toys, here = modules
folder, out = map(pathlib.Path, sys.argv[3:])
here.learn_and_resume(folder, out)
here.run_grpo_twice(toys, folder, out / "grpo")
"""


def run_two(script, *arguments, **environment):
    """Run a script in two processes that meet."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    given = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "VLA_POLICY_PRECISION": "float32"}
    return subprocess.run(
        [*command, *map(str, (script, *arguments))],
        env=os.environ | given | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def runs(toys, tmp_path_factory):
    """What one process and what two processes left behind."""
    folder = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vla_policy.precision.compute_dtype", lambda _: torch.float32)
        for kind in KINDS:
            policy = toys.make_policy() if kind == "ours" else toys.make_openvla(folder / kind)
            policy.save(folder / kind)
            (folder / f"{kind}.groups").write_bytes(pack(toys.sample_groups(policy, 5)))
        (folder / "worker.py").write_text(WORKER)
        for name in ("one", "two"):
            (folder / name).mkdir()
        learn_and_resume(folder, folder / "one")
    here = Path(__file__)
    child = run_two(folder / "worker.py", here.with_name("conftest.py"), here, folder, folder / "two")
    assert child.returncode == 0, child.stderr[-5000:]
    return folder


def told(folder, kind, rank=0):
    return json.loads((folder / f"{kind}-{rank}.json").read_text())


def weights_in(folder):
    file = "adapter_model.safetensors" if checkpoint.is_adapted(folder) else "model*.safetensors"
    return {name: weight for path in folder.glob(file) for name, weight in load_file(path).items()}


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_have_the_loss_and_the_gradient_of_one(runs, kind):
    one, two = told(runs / "one", kind), told(runs / "two", kind)
    for step in ("first", "second"):
        assert two[step] == pytest.approx(one[step], rel=1e-3, abs=1e-5)
        assert one[step]["grad_norm"] > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_end_with_the_weights_of_one(runs, kind):
    before = weights_in(runs / kind)
    for step in ("1", "2"):
        one, two = (weights_in(runs / name / kind / step) for name in ("one", "two"))
        assert one.keys() == two.keys()
        assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)
        moved = [name for name in one if name not in before or not torch.allclose(one[name], before[name], atol=1e-4)]
        assert len(moved) > 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_run_resumes_bit_for_bit(runs, kind):
    for rank in (0, 1):
        found = told(runs / "two", kind, rank)
        assert found["again"] == found["second"]
        assert found["same"]
        assert found["number"] == rank


@pytest.mark.parametrize("kind", KINDS)
def test_all_processes_are_told_the_same(runs, kind):
    assert told(runs / "two", kind, 0)["first"] == told(runs / "two", kind, 1)["first"]


def test_each_process_holds_its_share_of_weights_and_moments_and_all_adapters(runs):
    for kind in KINDS:
        found = [told(runs / "two", kind, rank) for rank in (0, 1)]
        assert found[0]["all"] == told(runs / "one", kind)["all"]
        if kind == "adapters":
            assert [one["own"] for one in found] == [found[0]["all"]] * 2
        else:
            assert sum(one["own"] for one in found) == found[0]["all"]
            assert 0.4 < found[0]["own"] / found[0]["all"] < 0.6


@pytest.mark.parametrize("kind", ["ours", "adapters"])
def test_what_two_processes_saved_is_not_resumed_by_one(runs, kind):
    policy = VlaPolicy.load(runs / kind)
    optimizer = make_optimizer(policy, KINDS[kind])
    with pytest.raises(VlaError, match=r"saved by another number of processes .* this run has 1; resume with as many"):
        load_state(runs / "two" / kind / "1", optimizer)


@pytest.mark.parametrize("kind", ["ours", "adapters"])
def test_a_shared_run_of_grpo_is_written_once_and_resumes_bit_for_bit(runs, toys, kind):
    unbroken, resumed = (runs / "two" / "grpo" / kind / name for name in ("unbroken", "resumed"))
    lines = toys.without_times(read_metrics(unbroken))
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert {line["group/kept"] for line in lines} == {3}
    assert lines == toys.without_times(read_metrics(resumed))
    last = unbroken / "checkpoints" / "step_000003"
    assert toys.tree_of(last) == toys.tree_of(resumed / "checkpoints" / "step_000003")
    for stem in ("optimizer", "surplus"):
        assert len(list(last.glob(f"{stem}-0000?-of-00002.safetensors"))) == 2
    assert VlaPolicy.load(last).embodiment == (toys.ROBOT if kind == "ours" else toys.HAND)


def test_processes_see_worlds_of_their_own(runs):
    stored = runs / "two" / "grpo" / "ours" / "unbroken" / "checkpoints" / "step_000001"
    numbers = []
    for path in sorted(stored.glob("optimizer-*.safetensors")):
        with safe_open(path, framework="pt") as file:
            numbers.append(json.loads(file.metadata()["numbers"]))
    assert [number["next_seed"] % 2 for number in numbers] == [0, 1]
    assert all(number["next_seed"] > 1_000_000 for number in numbers)


def test_fewer_groups_than_processes_are_refused(toys, tmp_path, monkeypatch):
    monkeypatch.setattr(ranks, "join", lambda: ranks.Ranks(0, 4))
    with pytest.raises(VlaError, match="3 groups cannot be shared by 4 processes"):
        run_grpo(toys, tmp_path, "ours", 1, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
