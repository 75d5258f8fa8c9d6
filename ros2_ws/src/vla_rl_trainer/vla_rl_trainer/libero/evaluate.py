"""Evaluate a checkpoint on LIBERO's suites by the published protocol.

    python -m vla_rl_trainer.libero.evaluate --checkpoint runs/libero/sft/checkpoints/step_004000 --suites libero_object

Every recorded initial state of the chosen split once, for each task: `vla_rl_trainer.evaluate` with other defaults.
`summary.json`, `report.html` and the table on the terminal give each task, each suite and all of them, with 95 %
intervals, and say which states, renderer and assets it was: images drawn without multisampling and reflections, or
over stand-in meshes, are not those of published numbers.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from vla_policy.config import Decoding
from vla_rl_trainer import evaluate
from vla_rl_trainer.benchmarks.libero import LiberoOptions
from vla_rl_trainer.command import run_command
from vla_rl_trainer.config_checks import require_at_least
from vla_rl_trainer.libero.protocol import StateSplit, Visuals, num_evaluation_states
from vla_rl_trainer.libero.suites import HORIZONS, NUM_STATES


@dataclasses.dataclass(frozen=True, kw_only=True)
class LiberoEvaluateConfig:
    """Evaluation of one checkpoint."""

    checkpoint: Path
    """Policy folder."""
    out: Path = Path("runs/evaluate-libero")
    """Run folder; the same command replaces what it wrote there, another one is refused."""
    suites: tuple[str, ...] = tuple(HORIZONS)
    """Suites, or single tasks such as libero_object/3."""
    states: StateSplit = "held_out"
    """official: all 50 initial states, on which published policies were also trained; held_out: the last 20."""
    visuals: Visuals = "lean"
    """stock: images as the benchmark draws them, at a tenth of the speed."""
    max_episodes: int = NUM_STATES
    """Of each task; fewer than the split has is a sample, not the protocol."""
    decoding: Decoding | None = None
    """How the policy chooses among its bins; its own way by default."""
    temperature: float = 1.0
    """Of 'sample' and 'expectation'."""
    num_videos: int = 0
    """Of each task, half of them failures as far as there are any."""
    num_workers: int | None = None
    """Simulation processes; one a core by default."""
    cache: Path | None = None
    """Folder of the compiled tasks; LIBERO_CACHE, else the user's cache by default."""

    def __post_init__(self) -> None:
        """Refuse what cannot be evaluated."""
        require_at_least(self, 1, "max_episodes")
        _ = self.evaluation

    @property
    def evaluation(self) -> evaluate.EvaluateConfig:
        """The same for the command that evaluates anything."""
        return evaluate.EvaluateConfig(
            checkpoint=self.checkpoint,
            out=self.out,
            tasks=self.suites,
            num_episodes=min(self.max_episodes, num_evaluation_states(self.states)),
            libero=LiberoOptions(states=self.states, visuals=self.visuals, cache=self.cache),
            decoding=self.decoding,
            temperature=self.temperature,
            num_videos=self.num_videos,
            num_workers=self.num_workers,
        )


def main(config: LiberoEvaluateConfig) -> int:
    """Evaluate; returns the exit code."""
    return evaluate.main(config.evaluation)


if __name__ == "__main__":
    run_command(main, LiberoEvaluateConfig)
