"""Demonstrations on disk, as LeRobotDataset v3.0, and in memory, as the table SFT trains on."""

from vla_rl_trainer.dataset.episode import EpisodeData
from vla_rl_trainer.dataset.frames import FrameTable
from vla_rl_trainer.dataset.reader import Dataset
from vla_rl_trainer.dataset.writer import DatasetWriter

__all__ = ["Dataset", "DatasetWriter", "EpisodeData", "FrameTable"]
