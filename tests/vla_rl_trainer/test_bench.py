"""Every figure is there and means something; how large it is, is for `make bench` to say."""

import dataclasses
import json
import statistics

import numpy as np
import pytest

from piper_twin.worlds import TwinConfig
from vla_policy import presets
from vla_policy.errors import VlaError
from vla_rl_trainer import bench
from vla_rl_trainer.bench import BenchConfig, measurements, nested, rates, twin_table
from vla_rl_trainer.bench_worlds import WorldLoop, small_motions
from vla_rl_trainer.envs.twin_env import TwinVectorEnv

QUICK = BenchConfig(
    seconds=0.02, num_repetitions=1, num_slots=2, num_workers=1, batch=2, table_workers=(1, 3), table_slots=(2,)
)
FIGURES = (
    "twin.chunks_per_s",
    "twin.bytes_per_world",
    "tiny.policy_samples_per_s",
    "tiny.learner_samples_per_s",
    "rollout.control_steps_per_s",
    "small.policy_samples_per_s",
    "small.learner_samples_per_s",
    "small.rollout.control_steps_per_s",
)


def micro(embodiment):
    return dataclasses.replace(
        presets.tiny(embodiment), image_size=16, vision_channels=(8, 8), num_image_tokens=2, hidden_size=16,
        num_layers=1, num_heads=2, intermediate_size=16,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def micro_networks(monkeypatch):
    monkeypatch.setattr(bench, "PRESETS", {"tiny": micro, "small": micro})


def number(summary, name):
    for key in name.split("."):
        summary = summary[key]
    return summary


@pytest.mark.sim
def test_every_figure_is_written_and_positive(tmp_path, capsys):
    summary = bench.main(dataclasses.replace(QUICK, out=tmp_path / "bench", table=True))
    assert json.loads((tmp_path / "bench" / "summary.json").read_text()) == summary
    assert all(number(summary, name) > 0 for name in (*FIGURES, "twin.cores"))
    assert all(summary[name] for name in ("hardware", "commit", "command", "device"))
    assert set(summary["repetitions"]) == set(FIGURES)
    assert [(row["workers"], row["worlds"]) for row in summary["table"]] == [(1, 2)]
    shown = capsys.readouterr().out
    assert all(name in shown for name in FIGURES)
    assert "2 worlds" in shown


@pytest.mark.sim
def test_a_world_takes_between_the_size_of_its_images_and_a_few_megabytes():
    (found,) = bench.bytes_per_world(QUICK)
    assert 3 * 128 * 128 * 3 < found < 10e6


def test_every_figure_asked_for_is_measured():
    assert tuple(measurements(QUICK)) == FIGURES


def test_a_rate_is_units_by_seconds_and_the_first_repetition_is_thrown_away():
    calls = []

    def work():
        calls.append(len(calls))
        return (1000.0, 1.0) if len(calls) == 1 else (6.0, 2.0)

    assert rates(work, dataclasses.replace(QUICK, seconds=3.0, num_repetitions=3)) == [3.0, 3.0, 3.0]
    assert len(calls) == 4


def test_names_with_dots_become_dictionaries():
    assert nested({"a.b": 1.0, "a.c.d": 2.0, "e.f": 3.0}) == {"a": {"b": 1.0, "c": {"d": 2.0}}, "e": {"f": 3.0}}


def test_the_table_leaves_out_workers_without_a_world(monkeypatch):
    monkeypatch.setattr(bench, "twin_chunks", lambda config, workers, slots: [1.0, 100.0 * workers + slots, 1e9])
    found = twin_table(dataclasses.replace(QUICK, table_workers=(1, 4), table_slots=(2, 8)))
    assert [tuple(row.values()) for row in found] == [(1, 2, 102.0), (1, 8, 108.0), (4, 8, 408.0)]


@pytest.mark.sim
def test_worlds_are_restarted_one_after_another_and_before_they_end():
    with TwinVectorEnv(4, TwinConfig(image_size=16), num_workers=1) as env:
        loop = WorldLoop(env, "click_bell", small_motions(length=8), max_chunks=4)
        seeds = []
        for _ in range(6):
            before = [one.episode.seed for one in loop._trajectories]
            lap = loop.lap()
            after = [one.episode.seed for one in loop._trajectories]
            seeds.append([slot for slot in range(4) if before[slot] != after[slot]])
            assert (lap.num_going_on, lap.num_steps) == (4, 32)
            assert 0.0 < lap.step_s < lap.total_s
            assert np.isfinite(loop._seen.state_BS).all()
    assert seeds == [[3], [2], [1], [0], [3], [2]]


@pytest.mark.sim
def test_what_is_seen_of_a_restarted_world_is_its_own():
    with TwinVectorEnv(3, TwinConfig(image_size=16), num_workers=1) as env:
        loop = WorldLoop(env, "click_bell", small_motions(length=2), max_chunks=3)
        loop.lap()
        fresh = env.reset([2], [loop._trajectories[2].episode])
        np.testing.assert_array_equal(loop._seen.images_BCHW3[2], fresh.images_BCHW3[0])
        np.testing.assert_array_equal(loop._seen.state_BS[2], fresh.state_BS[0])
        assert loop._seen.instructions[2] == fresh.instructions[0]


def test_fresh_policies_move_a_little():
    policy = bench.fresh_policy("tiny")
    seen = bench.random_observations(policy, 4)
    inputs = policy.inputs_from_arrays(seen.images_BCHW3, seen.state_BS, seen.instructions)
    actions = policy.sample(inputs, seen.state_BS, bench.TEMPERATURE).actions_BKA
    assert statistics.median(np.abs(actions - seen.state_BS[:, None]).ravel().tolist()) < 0.1


@pytest.mark.parametrize(
    "wrong", [{"seconds": 0.0}, {"num_repetitions": 0}, {"num_slots": -1}, {"batch": 1}, {"num_workers": 0},
              {"table_workers": (0,)}, {"table_slots": (4, -1)}]
)  # fmt: skip
def test_what_measures_nothing_is_refused(wrong):
    with pytest.raises(VlaError, match="give"):
        BenchConfig(**wrong)
