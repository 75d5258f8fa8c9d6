"""Every figure is there and means something; how large it is, is for the device to say."""

import dataclasses
import json

import numpy as np
import pytest

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_policy.openvla import memory
from vla_rl_trainer import bench_vla
from vla_rl_trainer.bench_vla import BenchVlaConfig, main
from vla_rl_trainer.bench_vla_iteration import IterationConfig, TimedEnv

QUICK = BenchVlaConfig(
    preset="openvla_tiny",
    compile=("off",),
    batches=(1, 3),
    seconds=0.01,
    matmul_sizes=(64, 128),
    lora_rank=2,
    micro_batch=4,
    num_chunks=8,
    iteration=IterationConfig(num_groups=2, group_size=2, num_slots=4, num_workers=1, max_chunks=2),
)


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """Of everything, measured once."""
    out = tmp_path_factory.mktemp("bench") / "vla"
    found = main(dataclasses.replace(QUICK, out=out))
    assert json.loads((out / "summary.json").read_text()) == found
    return found


@pytest.mark.sim
def test_every_figure_is_written(summary):
    assert summary["matmul"]["flops"] == max(summary["matmul"]["by_size"].values()) > 0
    for name in ("samples_per_s", "floor_ratio"):
        assert summary["forward"][name] > 0
        assert summary["learner"][name] > 0
    assert [(row["compile"], row["batch"]) for row in summary["forward"]["by"]] == [("off", 1), ("off", 3)]
    (latency,) = summary["latency"]["by"]
    assert summary["latency_ms"] == latency["network"]
    assert all(latency[name] > 0 for name in ("network", "policy", "inputs"))
    assert (summary["gpus"], summary["device"], summary["preset"]) == (1, "cpu", "openvla_tiny")
    assert all(summary[name] for name in ("hardware", "commit", "command"))


@pytest.mark.sim
def test_the_floor_is_the_reckoning_at_the_rate_of_products(summary):
    row, flops = summary["forward"]["by"][0], summary["flops"]
    assert flops["whole"] == sum(flops[name] for name in ("llama", "dinov2", "siglip", "projectors", "head"))
    assert row["floor_ratio"] == pytest.approx(summary["matmul"]["flops"] / flops["whole"] / row["samples_per_s"])


@pytest.mark.sim
def test_a_step_of_grpo_is_told_by_phases_that_add_up(summary):
    found = summary["iteration"]
    whole = sum(found["phases_s"].values())
    assert found["env_steps_per_s"] == pytest.approx(found["env_steps"] / whole, rel=0.01)
    assert found["groups"] == 2
    assert found["episodes"] in (4, 6)  # one group may be begun in reserve
    assert (found["chunks"], found["env_steps"]) == (2 * found["episodes"], 16 * found["episodes"])
    assert all(seconds > 0 for seconds in found["phases_s"].values())
    assert found["sampler_learner_gap"] < 0.3


@pytest.mark.sim
def test_a_learner_is_measured_with_adapters(summary):
    found = summary["learner"]
    assert (found["trained"], found["micro_batch"], found["recompute"]) == ("adapters", 4, False)
    assert found["memory_gb"] is None
    assert found["reckoned_gb"] > 0
    assert abs(found["loss"]) > 1e-4


def test_short_runs_make_one_summary(tmp_path, capsys):
    config = dataclasses.replace(QUICK, out=tmp_path / "bench", parts=("matmul",))
    with pytest.raises(VlaError, match="no rate of matrix products yet"):
        main(dataclasses.replace(config, parts=("latency",)))
    assert not (tmp_path / "bench").exists()
    first = main(config)
    main(dataclasses.replace(config, parts=("learner",)))
    found = main(dataclasses.replace(config, parts=("learner",), lora_rank=0, recompute=True))
    assert found["matmul"] == first["matmul"]
    assert [row["trained"] for row in found["learner"]["by"]] == ["adapters", "all"]
    assert found["learner"]["recompute"]
    assert found["learner"]["by"][0]["loss"] == pytest.approx(found["learner"]["loss"], abs=0.01)
    again = main(dataclasses.replace(config, parts=("learner",)))
    assert [row["trained"] for row in again["learner"]["by"]] == ["all", "adapters"]
    assert "floor" in capsys.readouterr().out


def test_too_little_memory_is_said_before_weights_are_made(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda device: 10**9)
    monkeypatch.setattr(bench_vla, "fresh_policy", lambda *_: pytest.fail("made weights"))
    config = dataclasses.replace(QUICK, out=tmp_path / "bench", preset="openvla_7b", parts=("matmul", "forward"))
    with pytest.raises(VlaError, match=r"seven billion weights needs .* GB of memory"):
        main(config)


def test_every_second_try_at_a_world_succeeds_at_the_end_of_its_time(toys):
    env = TimedEnv(toys.ScriptedEnv(2, lambda episode, attempt: toys.Part(success=False, chunks=9)), max_chunks=2)
    actions = np.zeros((2, toys.CHUNK, 3), np.float32)
    ends = []
    for seed in (0, 1):
        env._env._running.clear()
        env.reset([0, 1], [Episode("click_bell", seed)] * 2)
        for _ in range(2):
            _, outcome = env.step_chunk([0, 1], actions)
            ends.append((outcome.done_B.tolist(), outcome.success_B.tolist()))
    running, over = ([False, False], [False, False]), ([True, True], [True, False])
    assert ends == [running, over] * 2
    assert env.seconds > 0.0


@pytest.mark.parametrize(
    "wrong",
    [{"seconds": 0.0}, {"parts": ()}, {"batches": (0,)}, {"micro_batch": 0}, {"num_chunks": 4}, {"preset": "tiny"}],
)
def test_what_measures_nothing_is_refused(wrong):
    with pytest.raises(VlaError, match=r"give|choose one of"):
        BenchVlaConfig(**wrong)
