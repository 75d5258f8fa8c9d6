"""SFT, GRPO, evaluation and resume on LIBERO, as on the twin: with its scenes, physics and images, made short."""

import contextlib
import dataclasses
import json
from typing import ClassVar

import numpy as np
import pytest

from piper_twin.episode import Episode
from vla_rl_trainer import grpo_trainer, train, train_grpo
from vla_rl_trainer.benchmarks.libero import LiberoOptions
from vla_rl_trainer.dataset import DatasetWriter, EpisodeData
from vla_rl_trainer.envs import libero_env
from vla_rl_trainer.group_collector import GroupConfig
from vla_rl_trainer.learner import LearnerConfig
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.libero.protocol import state_of
from vla_rl_trainer.libero.suites import NUM_STATES
from vla_rl_trainer.libero.worlds import LiberoConfig, LiberoWorlds
from vla_rl_trainer.run_files import read_metrics
from vla_rl_trainer.sft import SftConfig
from vla_rl_trainer.train_grpo import TrainGrpoConfig
from vla_rl_trainer.train_sft import TrainSftConfig
from vla_rl_trainer.train_sft import main as train_sft

pytestmark = [pytest.mark.libero, pytest.mark.patience(600)]

SOUP, BOWL = "libero_object/0", "libero_spatial/2"
LEARNER = LearnerConfig(learning_rate=1e-3, num_minibatches=2)


class ShortLibero(libero_env.LiberoVectorEnv):
    """Episodes of two chunks, about half of which succeed, by a digit of the state at their end; keeps their names."""

    started: ClassVar[list[Episode]] = []

    def __init__(self, num_slots, *arguments, **options):
        super().__init__(num_slots, *arguments, **options)
        self._chunks = np.zeros(num_slots, dtype=int)

    def reset(self, slots, episodes):
        self._chunks[list(slots)] = 0
        ShortLibero.started += episodes
        return super().reset(slots, episodes)

    def step_chunk(self, slots, actions_BKA):
        seen, outcome = super().step_chunk(slots, actions_BKA)
        self._chunks[list(slots)] += 1
        done = outcome.done_B | (self._chunks[list(slots)] == 2)
        lucky = np.floor(1e4 * seen.state_BS.sum(axis=1)) % 2 == 0
        return seen, dataclasses.replace(outcome, done_B=done, success_B=done & ~outcome.dropped_B & lucky)


@contextlib.contextmanager
def made_short():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(libero_env, "LiberoVectorEnv", ShortLibero)
        patch.setattr(grpo_trainer, "PREFLIGHT_EPISODES", 6)
        patch.setattr("vla_rl_trainer.run_folder.make_trackers", lambda folder, config: [])
        ShortLibero.started = []
        yield


@pytest.fixture(scope="module")
def demos(cache, tmp_path_factory):
    """Random motions of two tasks, recorded."""
    folder = tmp_path_factory.mktemp("libero") / "demos"
    worlds = LiberoWorlds(1, LiberoConfig(image_size=128, cache=cache))
    rng = np.random.default_rng(0)
    with DatasetWriter(folder, LIBERO_PANDA, images="image") as writer:
        for task in (SOUP, BOWL):
            worlds.reset([0], [Episode(task, 0, "demonstration")])
            images, states = np.zeros((6, 2, 128, 128, 3), dtype=np.uint8), np.zeros((6, 7), dtype=np.float32)
            actions = rng.uniform(-1, 1, (6, 7)).astype(np.float32)
            for step in range(6):
                worlds.images([0], images[step : step + 1])
                worlds.joint_states([0], states[step : step + 1])
                worlds.step_chunk([0], actions[None, step : step + 1])
            shown = {name: images[:, number] for number, name in enumerate(LIBERO_PANDA.camera_names)}
            told = dict(instruction=worlds.instruction(0), success=True, seed=0, task=task)
            writer.add(EpisodeData(images=shown, state=states, action=actions, **told))
    worlds.close()
    return folder


@pytest.fixture(scope="module")
def policy(demos, tmp_path_factory):
    """A `tiny` network after two steps of SFT."""
    with made_short():
        out = tmp_path_factory.mktemp("libero") / "sft"
        return train_sft(
            TrainSftConfig(dataset=(demos,), preset="tiny", out=out, sft=SftConfig(num_steps=2, batch_size=4))
        )


def files_of(checkpoint):
    return {path.name: path.read_bytes() for path in checkpoint.iterdir()}


def without_times(metrics):
    return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in metrics]


def test_two_steps_of_grpo_resumed_after_the_first_equal_an_unbroken_run(policy, cache, tmp_path):
    def config(name, **changes):
        given = dict(checkpoint=policy, out=tmp_path / name, tasks=(SOUP,), num_steps=2, num_groups=2, num_slots=6)
        given |= dict(num_workers=1, checkpoint_every=1, seed=1, libero=LiberoOptions(cache=cache))
        given |= dict(group=GroupConfig(group_size=4), learner=LEARNER)
        return TrainGrpoConfig(**given | changes)

    with made_short():
        unbroken = train_grpo.main(config("unbroken"))
        started = set(ShortLibero.started)
        train_grpo.main(config("resumed", num_steps=1))
        resumed = train_grpo.main(config("resumed", num_workers=2))
    curves = [without_times(read_metrics(folder.parents[1])) for folder in (unbroken, resumed)]
    assert curves[0] == curves[1]
    assert [line["group/kept"] for line in curves[0]] == [2, 2]
    assert files_of(unbroken) == files_of(resumed)
    assert files_of(unbroken)["model.safetensors"] != files_of(policy)["model.safetensors"]
    states = {state_of(episode, "held_out", NUM_STATES) for episode in started}
    assert max(states) < 30, "training starts from held-out states"
    assert len(states) > 2


def test_one_command_fine_tunes_trains_evaluates_on_held_out_states_and_reports(policy, demos, cache, tmp_path):
    config = dataclasses.replace(
        train.libero(),
        tasks=(SOUP, BOWL),
        demos=(demos,),
        model=policy,
        play_episodes=0,
        num_demos=0,
        sft=SftConfig(num_steps=2, batch_size=4),
        grpo_steps=1,
        num_groups=1,
        num_slots=8,
        num_videos=1,
        libero=LiberoOptions(cache=cache),
        out=tmp_path / "run",
        num_workers=2,
    )
    with made_short():
        assert train.main(config) == 0
        trained = [episode for episode in ShortLibero.started if episode.split == "train"]
        evaluated = {episode for episode in ShortLibero.started if episode.split == "evaluation"}
        written = len(ShortLibero.started)
        assert train.main(config) == 0
        assert len(ShortLibero.started) == written, "a finished run starts no world again"
    states = {state_of(episode, "held_out", NUM_STATES) for episode in trained}
    assert states.isdisjoint(state_of(episode, "held_out", NUM_STATES) for episode in evaluated)
    assert {episode.task for episode in trained} == {SOUP, BOWL}
    summary = json.loads((config.out / "summary.json").read_text())
    assert (summary["states"], summary["perturbation"]) == ("held_out", "none")
    assert {summary[when]["num_episodes"] for when in ("before", "after")} == {40}
    assert summary["num_training_episodes"] > 0
    page = (config.out / "report.html").read_text()
    for text in ("pick up the alphabet soup", "libero_spatial", "held-out states", "before RL", "after RL"):
        assert text in page
    assert page.count("<video") == 2
