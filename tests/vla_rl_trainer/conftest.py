"""A robot, a policy of a few thousand numbers, a simulation that follows a script, and the twin made short."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import piper_twin  # noqa: F401  chooses an off-screen OpenGL before any test module imports mujoco
from piper_twin.episode import Episode
from piper_twin.robot import DUAL_PIPER
from piper_twin.worlds import ChunkOutcome
from vla_policy import precision
from vla_policy.config import VlaConfig
from vla_policy.embodiment import Camera, Embodiment, Joint
from vla_policy.normalization import DatasetStatistics, Statistics
from vla_policy.openvla import statistics as openvla_statistics
from vla_policy.openvla.config import LIBERO_IMAGES, OpenVlaConfig, TowerConfig
from vla_policy.policy import VlaPolicy
from vla_policy.prompt import train_tokenizer
from vla_rl_trainer.allocation import TaskAllocator
from vla_rl_trainer.envs.twin_env import TwinVectorEnv
from vla_rl_trainer.envs.vector_env import Observations
from vla_rl_trainer.group_collector import GroupCollector, GroupConfig
from vla_rl_trainer.rollout import sampling

CHUNK = 4
SIDE = 8
INSTRUCTIONS = ("press the bell", "lift it", "put the red cube on the green one")

ROBOT = Embodiment(
    name="two_joints",
    joints=tuple(
        Joint(
            name=name,
            lower=0.0 if name == "gripper" else -1.5,
            upper=0.07 if name == "gripper" else 1.5,
            max_velocity=3.0,
            max_acceleration=5.0,
            is_gripper=name == "gripper",
        )
        for name in ("shoulder", "elbow", "gripper")
    ),
    cameras=tuple(Camera(name=name, height=SIDE, width=SIDE, fovy=1.0) for name in ("head", "wrist")),
    control_period=0.04,
)

NETWORK = VlaConfig(
    camera_names=ROBOT.camera_names,
    image_size=SIDE,
    vision_channels=(8, 16),
    hidden_size=32,
    num_layers=1,
    num_heads=2,
    intermediate_size=48,
    chunk_length=CHUNK,
    action_dim=3,
    state_dim=3,
    text_vocab_size=320,
    max_prompt_tokens=32,
)

HAND = Embodiment(
    name="hand",
    joints=tuple(
        Joint(name=name, lower=-1, upper=1, max_velocity=9, max_acceleration=99, is_gripper=name == "gripper")
        for name in ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    ),
    cameras=tuple(Camera(name=name, height=SIDE, width=SIDE, fovy=0.8) for name in ("agentview", "wrist")),
    control_period=0.05,
)

OPENVLA = OpenVlaConfig(
    camera_names=("agentview",),
    image_size=28,
    dinov2=TowerConfig(width=32, num_blocks=3, mlp_width=64, patch_size=14, num_registers=4),
    siglip=TowerConfig(width=48, num_blocks=3, mlp_width=80, patch_size=14),
    hidden_size=32,
    num_layers=2,
    num_heads=2,
    num_kv_heads=2,
    intermediate_size=48,
    chunk_length=CHUNK,
    action_dim=7,
    use_proprio=False,
    state_dim=0,
    normalisation="bounds_q99",
    images=LIBERO_IMAGES,
)

STATISTICS = DatasetStatistics(
    action=Statistics.of(np.linspace([-0.5, -0.4, 0.0], [0.5, 0.6, 0.07], 101)),
    proprio=Statistics.of(np.linspace([-1.5, -1.5, 0.0], [1.5, 1.5, 0.07], 101)),
    num_transitions=101,
    num_trajectories=1,
)

TOKENIZER = train_tokenizer(INSTRUCTIONS, vocab_size=NETWORK.text_vocab_size)


@dataclasses.dataclass(frozen=True)
class Part:
    """What happens in one try at a world."""

    success: bool
    chunks: int = 2
    last_steps: int = CHUNK
    """Control steps of the last chunk that count."""
    dropped: bool = False


Script = Callable[[Episode, int], Part]
"""What the n-th try at a world, from 0, comes to."""


class ScriptedEnv:
    """A `VectorEnv` whose outcomes are written down beforehand; refuses to be used wrongly."""

    def __init__(self, num_slots: int, script: Script, robot: Embodiment = ROBOT) -> None:
        self.embodiment = robot
        self.num_slots = num_slots
        self._script = script
        self.tries: Counter[Episode] = Counter()
        self.started: list[Episode] = []
        self.busy: list[int] = []
        """Worlds stepped in each call."""
        self._running: dict[int, tuple[Episode, Part, int]] = {}

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> Observations:
        assert len(set(slots)) == len(slots) == len(episodes)
        for slot, episode in zip(slots, episodes, strict=True):
            assert slot not in self._running, f"slot {slot} still runs"
            assert 0 <= slot < self.num_slots
            self._running[slot] = (episode, self._script(episode, self.tries[episode]), 0)
            self.tries[episode] += 1
            self.started.append(episode)
        return self._look(slots)

    def step_chunk(self, slots: Sequence[int], actions_BKA: np.ndarray) -> tuple[Observations, ChunkOutcome]:
        assert actions_BKA.shape == (len(slots), CHUNK, self.embodiment.num_joints)
        assert set(slots) <= set(self._running), "a world that is done was stepped"
        self.busy.append(len(slots))
        parts, done = [], []
        for slot in slots:
            episode, part, chunk = self._running[slot]
            self._running[slot] = (episode, part, chunk + 1)
            parts.append(part)
            done.append(chunk + 1 == part.chunks)
        observations = self._look(slots)
        for slot, is_done in zip(slots, done, strict=True):
            if is_done:
                del self._running[slot]
        ended = list(zip(parts, done, strict=True))
        return observations, ChunkOutcome(
            success_B=np.array([part.success and is_done for part, is_done in ended]),
            done_B=np.array(done),
            dropped_B=np.array([part.dropped and is_done for part, is_done in ended]),
            steps_B=np.array([part.last_steps if is_done else CHUNK for part, is_done in ended]),
            sent_BKA=actions_BKA,
            refused_B=np.ones(len(slots), dtype=np.int64),
            signals=tuple({"touched": part.success, "pushed": False} for part in parts),
        )

    def close(self) -> None:
        assert not self._running, "worlds were left running"

    def _look(self, slots: Sequence[int]) -> Observations:
        """Random, but fixed by world, try and chunk."""
        images, states, instructions = [], [], []
        lower, upper = np.clip([(joint.lower, joint.upper) for joint in self.embodiment.joints], -1, 1).T
        shape = (len(self.embodiment.cameras), SIDE, SIDE, 3)
        for slot in slots:
            episode, _, chunk = self._running[slot]
            rng = np.random.default_rng([episode.seed, self.tries[episode], chunk])
            images.append(rng.integers(0, 256, shape, dtype=np.uint8))
            states.append(rng.uniform(lower, upper).astype(np.float32))
            instructions.append(INSTRUCTIONS[episode.seed % len(INSTRUCTIONS)])
        return Observations(np.stack(images), np.stack(states), tuple(instructions))


def pattern(*outcomes: str) -> Script:
    """Outcomes by seed, one character a try: 1 success, 0 failure, x dropped; lengths vary from try to try."""

    def script(episode: Episode, attempt: int) -> Part:
        outcome = outcomes[episode.seed % len(outcomes)][attempt]
        return Part(
            success=outcome == "1",
            chunks=1 + (episode.seed + 2 * attempt) % 3,
            last_steps=0 if outcome == "x" else 1 + attempt % CHUNK,
            dropped=outcome == "x",
        )

    return script


def make_policy(config: VlaConfig = NETWORK, seed: int = 0) -> VlaPolicy:
    """An untrained policy."""
    return VlaPolicy.create(config, ROBOT, STATISTICS, TOKENIZER, seed=seed)


def make_openvla(folder: Path, seed: int = 0, **changes: Any) -> VlaPolicy:
    """A network of OpenVLA-OFT's design with everything small but the vocabulary, in a folder of the published layout.

    It moves `HAND` by absolute actions and sees it through the first of its cameras.
    """
    config = dataclasses.replace(OPENVLA, **changes)
    spread = Statistics.of(np.linspace([-0.9] * 7, [0.8] * 7, 101)).to_dict()
    described = openvla_statistics.of({"hand": {"action": spread}}, "hand", with_proprio=False, owner="the toy")
    VlaPolicy.create(config, HAND, described, TOKENIZER, seed=seed).save(folder)
    return VlaPolicy.load(folder)


def sample_groups(policy: VlaPolicy, num_groups: int, script: Script | None = None, version: int = 0, slots: int = 8):
    """Groups of four sampled by `policy`, by default with two successes each."""
    env = ScriptedEnv(slots, script or pattern("1010", "0110", "1001"), policy.embodiment)
    config = GroupConfig(group_size=4, stop_decided=False)
    collector = GroupCollector(env, config, TaskAllocator(("bell",)))
    decide = sampling(policy, 1.6, torch.Generator().manual_seed(version))
    groups, _ = collector.collect(decide, num_groups, np.random.default_rng(version), version)
    return groups


def make_piper_policy(seed: int = 0) -> VlaPolicy:
    """An untrained policy for the twin."""
    network = dataclasses.replace(
        NETWORK,
        camera_names=DUAL_PIPER.camera_names,
        action_dim=DUAL_PIPER.num_joints,
        state_dim=DUAL_PIPER.num_joints,
    )
    statistics = DatasetStatistics(
        action=Statistics.of(np.linspace([-0.1] * DUAL_PIPER.num_joints, [0.1] * DUAL_PIPER.num_joints, 101)),
        proprio=Statistics.of(np.linspace([-2.0] * DUAL_PIPER.num_joints, [2.0] * DUAL_PIPER.num_joints, 101)),
        num_transitions=101,
        num_trajectories=1,
    )
    return VlaPolicy.create(network, DUAL_PIPER, statistics, TOKENIZER, seed=seed)


class ShortTwin(TwinVectorEnv):
    """The twin with its workers, physics and images, but episodes of two chunks, about half of which succeed.

    What decides is a digit of the joint positions at the end: no policy is too bad for it, and a run that differs
    from another one anywhere soon has other successes.
    """

    def __init__(self, num_slots: int, *arguments: Any, **options: Any) -> None:
        super().__init__(num_slots, *arguments, **options)
        self._chunks = np.zeros(num_slots, dtype=int)

    def reset(self, slots: Sequence[int], episodes: Sequence[Episode]) -> Observations:
        self._chunks[list(slots)] = 0
        return super().reset(slots, episodes)

    def step_chunk(self, slots: Sequence[int], actions_BKA: np.ndarray) -> tuple[Observations, ChunkOutcome]:
        seen, outcome = super().step_chunk(slots, actions_BKA)
        self._chunks[list(slots)] += 1
        done = outcome.done_B | (self._chunks[list(slots)] == 2)
        lucky = np.floor(1000 * seen.state_BS.sum(axis=1)) % 2 == 0
        return seen, dataclasses.replace(outcome, done_B=done, success_B=done & ~outcome.dropped_B & lucky)


def tree_of(folder: Path) -> dict[str, str]:
    """Every file below a folder with a digest of its content: to see that nothing was touched."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def without_times(metrics: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl without what no two runs share."""
    return [{name: value for name, value in line.items() if not name.startswith("time/")} for line in metrics]


@pytest.fixture(scope="session")
def toys() -> SimpleNamespace:
    """Everything above: test modules do not import one another."""
    return SimpleNamespace(**{name: value for name, value in globals().items() if not name.startswith("_")})


@pytest.fixture
def policy() -> VlaPolicy:
    """A fresh policy."""
    return make_policy()


@pytest.fixture
def two_threads() -> AbstractContextManager[None]:
    """torch with two threads, whatever the machine has."""

    @contextlib.contextmanager
    def run() -> Generator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    return run()


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the processor offers: for tests that compare numbers closely."""
    monkeypatch.setattr(precision, "compute_dtype", lambda device_type: torch.float32)


@pytest.fixture
def quick_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TensorBoard, which takes a second to start."""
    monkeypatch.setattr("vla_rl_trainer.run_folder.make_trackers", lambda folder, config: [])
