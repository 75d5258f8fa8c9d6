"""The figures of the twin on mujoco_warp are there and mean something."""

import dataclasses
import json

import pytest

from piper_twin.tasks import find_task
from vla_policy import presets
from vla_policy.errors import VlaError
from vla_rl_trainer import bench, bench_warp
from vla_rl_trainer.bench_warp import WarpBenchConfig


def micro(embodiment):
    return dataclasses.replace(
        presets.tiny(embodiment), image_size=16, vision_channels=(8, 8), num_image_tokens=2, hidden_size=16,
        num_layers=1, num_heads=2, intermediate_size=16, chunk_length=1,
    )  # fmt: skip


def test_speed_memory_and_the_time_of_each_phase_are_told_and_a_step_of_grpo_on_both_backends(tmp_path, monkeypatch):
    pytest.importorskip("mujoco_warp", reason='install it with pip install -c constraints.txt -e ".[warp]"')
    from piper_twin.mjwarp.device import WarpConfig

    monkeypatch.setattr(bench, "PRESETS", {"micro": micro})
    monkeypatch.setattr(find_task("click_bell"), "horizon", 2)  # so that worlds are restarted while it is measured
    config = WarpBenchConfig(
        out=tmp_path,
        worlds=(2,),
        preset="micro",
        seconds=0.01,
        members=2,
        grpo_episodes=4,
        warp=WarpConfig(device="cpu"),
    )
    summary = bench_warp.main(config)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    row = summary["warp"]
    assert row["worlds"] == 2
    assert row["control_steps_per_s"] > 0
    assert set(row["phases_ms"]) == {"guard", "physics", "predicates", "images", "starts", "policy", "round"}
    assert all(value > 0 for value in row["phases_ms"].values())
    assert row["phases_ms"]["physics"] <= row["phases_ms"]["round"]
    assert list(summary["grpo_step"]) == ["warp", "mujoco"]
    for step in summary["grpo_step"].values():
        assert step["groups"] == 2
        assert step["episodes"] >= 4
        assert step["env_steps"] >= 2 * step["episodes"]
        assert sum(step["phases_s"].values()) == pytest.approx(step["seconds"])


def test_nothing_is_measured_without_cuda_unless_asked_for(monkeypatch):
    monkeypatch.setattr(bench_warp.torch.cuda, "is_available", lambda: False)
    assert bench_warp.default_worlds() == ()
    with pytest.raises(VlaError, match="worlds count from 1"):
        WarpBenchConfig(worlds=())
