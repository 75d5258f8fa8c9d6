"""A run on a Ray cluster of two nodes: what one process would learn, and what happens when things go wrong."""

import contextlib
import dataclasses
import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch

from vla_policy.errors import VlaError
from vla_rl_trainer import train_grpo
from vla_rl_trainer.benchmarks import twin
from vla_rl_trainer.cluster import source
from vla_rl_trainer.cluster.config import ClusterConfig
from vla_rl_trainer.cluster.weights import pack_weights, take_weights
from vla_rl_trainer.group_collector import GroupConfig
from vla_rl_trainer.learner import LearnerConfig
from vla_rl_trainer.run_files import read_metrics
from vla_rl_trainer.trainable import LoraConfig

pytest.importorskip("ray", reason="install it with pip install -c constraints.txt -e '.[ray]'")

MEMORY = 80_000_000
"""Of each node's object store [B]: Ray's least is 75 MB."""
OUTCOMES = ("1010", "0110", "1001", "0000", "1111")


def script_the_twin(toys_file: Path) -> None:
    """Put a scripted simulation in place of the twin, in whatever process this is called."""
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("toys_of_the_cluster", toys_file)
    toys = importlib.util.module_from_spec(spec)
    sys.modules["toys_of_the_cluster"] = toys
    spec.loader.exec_module(toys)

    def make(num_slots, config, *, num_workers):
        return contextlib.closing(toys.ScriptedEnv(num_slots, toys.pattern(*OUTCOMES)))

    twin.TwinBenchmark.embodiment = toys.ROBOT
    twin.TwinVectorEnv = make


@pytest.fixture(scope="module")
def cluster():
    """A head without worlds, and a node that may run them; this process is the learner."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False},
    )
    nodes.add_node(num_cpus=4, resources={"worlds": 4}, object_store_memory=MEMORY)
    toys_file = Path(__file__).with_name("conftest.py")

    def begin() -> None:
        script_the_twin(toys_file)

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers do not know this module
    ray.init(address=nodes.address, runtime_env={"worker_process_setup_hook": begin}, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture
def configure(monkeypatch, toys, quick_trackers, tmp_path):
    """A short run in the scripted simulation."""
    toys.make_policy().save(tmp_path / "policy")
    monkeypatch.setattr(twin.TwinBenchmark, "embodiment", toys.ROBOT)
    monkeypatch.setattr(twin, "TwinVectorEnv", None)
    script_the_twin(Path(__file__).with_name("conftest.py"))
    threads = torch.get_num_threads()

    def make(name: str, cluster: ClusterConfig = ClusterConfig(), **changes):  # noqa: B008  frozen
        given = {"checkpoint": tmp_path / "policy", "out": tmp_path / name, "num_steps": 3, "num_groups": 3}
        given |= {"num_slots": 16, "seed": 1, "checkpoint_every": 1, "group": GroupConfig(group_size=4, max_groups=9)}
        given |= {"learner": LearnerConfig(learning_rate=1e-3, num_minibatches=2), "cluster": cluster}
        return train_grpo.TrainGrpoConfig(**(given | changes))

    yield make
    torch.set_num_threads(threads)


ONE = ClusterConfig(num_rollouts=1, worlds_on="worlds")


def test_one_rollout_that_takes_turns_gives_the_results_of_a_single_process(cluster, configure, toys):
    alone = train_grpo.main(configure("alone"))
    spread = train_grpo.main(configure("spread", ONE))
    curves = [toys.without_times(read_metrics(folder.parents[1])) for folder in (alone, spread)]
    assert curves[0] == curves[1]
    assert toys.tree_of(alone) == toys.tree_of(spread)


def curve_of(folder):
    return read_metrics(folder.parents[1])


def test_two_rollouts_sample_ahead_and_what_they_sample_is_never_too_old(cluster, configure):
    ahead = dataclasses.replace(ONE, num_rollouts=2, max_staleness=1)
    last = train_grpo.main(configure("ahead", ahead, num_steps=4))
    lines = curve_of(last)
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    assert lines[0]["staleness"] == 0
    assert all(1 <= line["staleness"] <= 2 for line in lines[1:])  # 2: held back from the step before
    assert all(line["group/kept"] == 3 for line in lines)
    with pytest.raises(
        VlaError, match=r"was saved by 2 rollouts, this run has 1; resume with --cluster\.num-rollouts 2"
    ):
        source.ClusterSource(configure("ahead", ONE), FakePolicy()).restore(last, {"rollouts": [{}, {}]})


class FakePolicy:
    """Nobody asks it for more than its configuration."""

    config = None


def test_groups_of_a_policy_that_is_too_old_are_thrown_away_and_counted(cluster, configure, toys):
    policy = toys.make_policy()
    old, new = (toys.sample_groups(policy, 2, version=version) for version in (1, 3))
    mine = source.ClusterSource(configure("old", ONE), policy)
    with contextlib.closing(mine):
        state = {"next_seed": 1, "allocator": mine._allocator.state()}
        sampled = [source.Sampled(source.pack(groups), source.CollectStatistics(), state, b"") for groups in (old, new)]
        kept, statistics = mine._join(sampled, step=3)
    assert [group.policy_version for group in kept] == [3, 3]
    assert statistics.num_stale == 2


def test_a_rollout_that_dies_is_started_again_and_nothing_is_lost(cluster, configure, toys, monkeypatch):
    whole = train_grpo.main(configure("whole", ONE))
    deaths = []
    send = source.ClusterSource._send

    def send_and_kill(self, seat, request):
        send(self, seat, request)
        if request.step == 1 and not deaths:  # while it samples
            import ray

            deaths.append(request.step)
            ray.kill(seat.actors[0])

    monkeypatch.setattr(source.ClusterSource, "_send", send_and_kill)
    again = train_grpo.main(configure("again", ONE))
    assert deaths == [1]
    assert toys.without_times(curve_of(again)) == toys.without_times(curve_of(whole))
    assert toys.tree_of(again) == toys.tree_of(whole)


def test_a_rollout_that_dies_again_and_again_ends_the_run(cluster, configure, monkeypatch):
    import ray

    monkeypatch.setattr(source, "MAX_DEATHS", 2)
    send = source.ClusterSource._send

    def send_and_kill(self, seat, request):
        send(self, seat, request)
        ray.kill(seat.actors[1])  # the worlds

    monkeypatch.setattr(source.ClusterSource, "_send", send_and_kill)
    with pytest.raises(VlaError, match="rollout 0 died 2 times in a row"):
        train_grpo.main(configure("dying", ONE))


def test_a_cluster_that_is_too_small_is_told_at_once(cluster, configure):
    with pytest.raises(VlaError, match=r"9 rollouts need 9 CPU, the cluster has 5; take fewer rollouts, or add nodes"):
        train_grpo.main(configure("large", dataclasses.replace(ONE, num_rollouts=9), num_groups=9))


def test_without_ray_or_a_cluster_one_line_says_what_to_do(monkeypatch):
    import ray

    def nobody(**_):
        raise ConnectionError("no route")

    with monkeypatch.context() as patch:
        patch.setattr(ray, "is_initialized", lambda: False)
        patch.setattr(ray, "init", nobody)
        with (
            pytest.raises(
                VlaError, match=r"no Ray cluster answers at 10\.0\.0\.1:6379 \(no route\); start one: ray start"
            ),
            source.connected(ClusterConfig(num_rollouts=1, address="10.0.0.1:6379")),
        ):
            pass
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(VlaError, match=r"a cluster needs ray .* install it"), source.connected(ClusterConfig()):
        pass


def test_of_adapted_networks_only_what_is_trained_travels(toys, tmp_path):
    policies = []
    for name in ("learner", "rollout"):
        policy = toys.make_openvla(tmp_path / name)
        policy.adapt(LoraConfig(rank=2).size)
        policies.append(policy)
    learner, rollout = policies
    trained = [weight for weight in learner.network.parameters() if weight.requires_grad]
    with torch.no_grad():
        for weight in trained:
            weight.add_(1.0)
    packed = pack_weights(learner)
    assert packed.nbytes < 2 * sum(weight.nbytes for weight in trained) + 100_000
    take_weights(rollout, packed)
    pairs = zip(learner.whole.state_dict().items(), rollout.whole.state_dict().items(), strict=True)
    assert all(one[0] == other[0] and torch.equal(one[1], other[1]) for one, other in pairs)


def test_nonsense_is_refused():
    with pytest.raises(VlaError, match="max_staleness"):
        ClusterConfig(max_staleness=-1)
    with pytest.raises(VlaError, match="cpus_per_worlds"):
        ClusterConfig(cpus_per_worlds=0)
