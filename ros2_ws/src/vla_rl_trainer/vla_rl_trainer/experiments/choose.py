"""All experiments by name."""

from __future__ import annotations

from vla_rl_trainer.experiments.ablations import Ablations
from vla_rl_trainer.experiments.cold_start import ColdStart
from vla_rl_trainer.experiments.experiment import Experiment
from vla_rl_trainer.experiments.exploration_cost import ExplorationCost
from vla_rl_trainer.experiments.generalisation import Generalisation
from vla_rl_trainer.experiments.pushcut import Pushcut
from vla_rl_trainer.experiments.sft_vs_rl import SftVsRl
from vla_rl_trainer.experiments.transfer import Transfer

ALL: tuple[Experiment, ...] = (
    SftVsRl(), ColdStart(), Ablations(), Pushcut(), Generalisation(), Transfer(), ExplorationCost(),
)  # fmt: skip
EXPERIMENTS: dict[str, Experiment] = {one.name: one for one in ALL}
"""Name to experiment."""
