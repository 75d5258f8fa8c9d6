"""Where metrics go besides metrics.jsonl: TensorBoard always, Weights & Biases when the environment asks for it."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from vla_rl_trainer.disk import refuse_full_disk

_LOGGER = logging.getLogger(__name__)


class Tracker(Protocol):
    """Somewhere to send metrics."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of one step."""
        ...

    def close(self) -> None:
        """Flush and let go."""
        ...


class TensorBoard:
    """Event files in one folder. Opened at the first step, whose number drops later points of a killed run."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; nothing is written before the first `log`."""
        self._folder = folder
        self._writer: Any = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one scalar a metric."""
        with refuse_full_disk(self._folder):
            if self._writer is None:
                from torch.utils.tensorboard import SummaryWriter  # takes a second: only for runs that log

                self._writer = SummaryWriter(str(self._folder), purge_step=step, flush_secs=30)
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is buffered."""
        if self._writer is not None:
            with refuse_full_disk(self._folder):
                self._writer.close()
            self._writer = None


class WeightsAndBiases:
    """A W&B run that carries on under the same id when the run folder is resumed; works offline."""

    def __init__(self, wandb: Any, folder: Path, config: Mapping[str, Any]) -> None:
        """Start or resume the W&B run of a run folder."""
        identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "vla"),
            name=folder.name,
            id=identity,
            resume="allow",
            dir=str(folder),
            config=dict(config),
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send one step; W&B keeps the first value of a step that is repeated after a resume."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Finish the upload."""
        self._run.finish()


def make_trackers(folder: Path, config: Mapping[str, Any]) -> list[Tracker]:
    """The trackers of a run folder: TensorBoard, and W&B when configured and installed.

    W&B counts as configured when WANDB_MODE or WANDB_PROJECT is set and WANDB_MODE is not "disabled". A W&B that
    cannot start is warned of and left out: a tracker never stops a training run.
    """
    trackers: list[Tracker] = [TensorBoard(folder / "tensorboard")]
    mode = os.environ.get("WANDB_MODE", "")
    if mode == "disabled" or not (mode or os.environ.get("WANDB_PROJECT")):
        return trackers
    try:
        wandb = importlib.import_module("wandb")
    except ImportError:
        return trackers
    try:
        trackers.append(WeightsAndBiases(wandb, folder, config))
    except Exception as error:  # W&B raises many kinds: no login, no network, no disk
        _LOGGER.warning("W&B is left out (%s); set WANDB_MODE=offline to record without a login", error)
    return trackers
