"""Which benchmark a task belongs to, and that training and evaluation need not know it."""

import dataclasses

import pytest

from piper_twin.robot import DUAL_PIPER
from vla_policy import presets
from vla_policy.errors import VlaError
from vla_rl_trainer.benchmarks.choose import benchmark_of, find_benchmark
from vla_rl_trainer.benchmarks.libero import LiberoBenchmark, LiberoOptions
from vla_rl_trainer.benchmarks.twin import TwinBenchmark
from vla_rl_trainer.evaluate import EvaluateConfig
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.libero.suites import tasks_of
from vla_rl_trainer.train_grpo import TrainGrpoConfig

OFFICIAL = LiberoOptions(states="official")


def test_names_say_which_benchmark_it_is():
    assert isinstance(find_benchmark(("click_bell", "pick_bottle")), TwinBenchmark)
    found = find_benchmark(("libero_object", "libero_goal/3"))
    assert isinstance(found, LiberoBenchmark)
    assert found.tasks == (*tasks_of("libero_object"), "libero_goal/3")
    assert found.suites == {"libero_object": tasks_of("libero_object"), "libero_goal": ("libero_goal/3",)}


def test_data_say_which_benchmark_by_their_robot(toys):
    assert benchmark_of(LIBERO_PANDA).embodiment == LIBERO_PANDA
    assert benchmark_of(DUAL_PIPER).embodiment == DUAL_PIPER
    assert benchmark_of(toys.ROBOT).embodiment == benchmark_of(None).embodiment == DUAL_PIPER


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        ((), {}, "no task was given; name at least one with --tasks"),
        (("click_bell", "libero_object/3"), {}, "click_bell is a task of the twin, libero_object/3 of LIBERO"),
        (("click_bell", "click_bell"), {}, "a task was given twice"),
        (("libero_object", "libero_object/3"), {}, "a task was given twice"),
        (("click_bel",), {}, "task 'click_bel' does not exist; choose one of"),
        (("libero_objects",), {}, "suite 'libero_objects' does not exist; choose one of libero_spatial"),
        (("libero_object/12",), {}, "write SUITE/0 to SUITE/9"),
        (("libero_object",), {"randomization": "wide"}, "randomization 'wide' is the twin's"),
        (("click_bell",), {"randomization": "wild"}, "choose one of off"),
        (("click_bell",), {"libero": OFFICIAL}, "options of libero were given, but no task of LIBERO"),
    ],
)
@pytest.mark.parametrize("kind", [TrainGrpoConfig, EvaluateConfig])
def test_tasks_and_options_that_do_not_go_together_are_refused(kind, tasks, options, message, tmp_path):
    with pytest.raises(VlaError, match=message):
        kind(checkpoint=tmp_path, tasks=tasks, **options)


def test_every_task_of_a_suite_is_trained_on(tmp_path):
    assert TrainGrpoConfig(checkpoint=tmp_path, tasks=("libero_goal",)).benchmark.tasks == tasks_of("libero_goal")


def test_networks_fit_their_robot():
    piper, panda = TwinBenchmark().network("tiny"), LiberoBenchmark().network("tiny")
    assert (piper, piper.action_frame) == (presets.tiny(DUAL_PIPER), "relative")
    assert panda == dataclasses.replace(presets.tiny(LIBERO_PANDA), action_frame="absolute")
    with pytest.raises(VlaError, match="preset 'tinny' does not exist; did you mean 'tiny'"):
        LiberoBenchmark().network("tinny")


@pytest.mark.parametrize(("frame", "fits"), [("absolute", True), ("libero", True), ("relative", False)])
def test_libero_refuses_policies_that_add_their_actions_to_the_state(frame, fits):
    config = dataclasses.replace(presets.tiny(LIBERO_PANDA), action_frame=frame)
    if fits:
        LiberoBenchmark().require_policy(config)
    else:
        with pytest.raises(VlaError, match='action_frame="absolute"'):
            LiberoBenchmark().require_policy(config)


@pytest.mark.parametrize(("states", "available"), [("held_out", 20), ("official", 50)])
def test_an_evaluation_uses_every_state_of_the_split_once_at_most(states, available, tmp_path):
    config = EvaluateConfig(checkpoint=tmp_path, tasks=("libero_10/0",), libero=LiberoOptions(states=states))
    assert config.worlds.num_episodes == available
    assert dataclasses.replace(config, num_episodes=3).worlds.num_episodes == 3
    with pytest.raises(VlaError, match=f"has {available} initial states .* give at most {available}"):
        dataclasses.replace(config, num_episodes=available + 1)


def test_no_base_ships_for_libero():
    with pytest.raises(VlaError, match="give --preset small"):
        LiberoBenchmark().base()
