"""How large an experiment is: seconds for tests, an hour on a laptop, half an hour of a GPU a claim."""

from __future__ import annotations

import dataclasses

from vla_rl_trainer.group_collector import GroupConfig
from vla_rl_trainer.learner import LearnerConfig
from vla_rl_trainer.sft import SftConfig

FOUR_REAL_TASKS = ("click_bell", "place_empty_cup", "pick_bottle", "stack_bowls")
"""Those that SimpleVLA-RL ran on real Pipers."""
ALL_TASKS = (
    *("click_bell", "lift_pot", "beat_hammer_block", "pick_dual_bottles", "place_phone_stand", "pick_bottle"),
    *("move_can_pot", "place_a2b_left", "place_a2b_right", "place_empty_cup", "handover_mic"),
    *("handover_block", "stack_bowls", "blocks_stack", "shoe_place", "blocks_rank_rgb", "put_bottles_dustbin"),
)
"""The suite, by horizon."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """Sizes of all that an experiment does."""

    tasks: tuple[str, ...]
    """Where an experiment does not choose its own."""
    num_demos: int
    """Of each task, before RL."""
    demo_counts: tuple[int, ...]
    """Of `cold_start`."""
    sft: SftConfig
    num_steps: int
    """Of GRPO."""
    num_groups: int
    num_slots: int
    group: GroupConfig = dataclasses.field(default_factory=GroupConfig)
    learner: LearnerConfig = dataclasses.field(default_factory=LearnerConfig)
    num_episodes: int
    """Of each task in an evaluation."""
    min_seeds: int = 3


SCALES: dict[str, Scale] = {
    "toy": Scale(
        tasks=("click_bell",),
        num_demos=1,
        demo_counts=(0, 1, 2),
        sft=SftConfig(num_steps=40, batch_size=16),
        num_steps=1,
        num_groups=2,
        num_slots=16,
        group=GroupConfig(group_size=4, max_groups=16),
        learner=LearnerConfig(num_minibatches=2),
        num_episodes=4,
        min_seeds=1,
    ),
    "laptop": Scale(
        tasks=("click_bell", "pick_bottle"),
        num_demos=1,
        demo_counts=(0, 1, 10, 50),
        sft=SftConfig(num_steps=100, batch_size=32, learning_rate=3e-4),
        num_steps=40,
        num_groups=16,
        num_slots=64,
        num_episodes=100,
    ),
    "full": Scale(
        tasks=ALL_TASKS,
        num_demos=10,
        demo_counts=(0, 1, 10, 50, 100, 500),
        sft=SftConfig(num_steps=400, batch_size=64, learning_rate=3e-4),
        num_steps=60,
        num_groups=64,
        num_slots=2048,
        group=GroupConfig(stop_decided=False),
        learner=LearnerConfig(micro_batch=512, num_minibatches=32),
        num_episodes=200,
    ),
}
"""Scales by name."""
