"""Episodes that the script has played, on disk until all of them can be written into a dataset."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from piper_twin.episode import Episode
from vla_policy.errors import VlaError
from vla_rl_trainer.dataset import EpisodeData
from vla_rl_trainer.disk import refuse_full_disk, write_atomically
from vla_rl_trainer.folder_lock import FolderLock
from vla_rl_trainer.libero.demonstrate import ScriptedDemonstration
from vla_rl_trainer.libero.embodiment import LIBERO_PANDA
from vla_rl_trainer.libero.tries import Try

_OPTIONS = "options.json"


class FoundEpisodes:
    """A hidden folder beside the dataset to be; a context manager that one process at a time may enter."""

    def __init__(self, dataset: Path, options: Mapping[str, Any]) -> None:
        """Choose the dataset; `options` are what decides how its episodes look, as JSON has them."""
        self.folder = dataset.absolute().with_name(f".{dataset.name}.episodes")
        self._options = json.dumps(options, indent=1) + "\n"

    def __enter__(self) -> FoundEpisodes:
        """Make the folder, or go on in it.

        Raises:
            VlaError: another process is at it, or it was begun with other options.
        """
        with refuse_full_disk(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.folder)
        told = self.folder / _OPTIONS
        if not told.exists():
            write_atomically(told, self._options)
        elif told.read_text() != self._options:
            self._lock.close()
            raise VlaError(f"{self.folder} was begun with other options; delete it, or choose another --out")
        return self

    def __exit__(self, *_: object) -> None:
        """Let others enter; everything stays for the next time."""
        self._lock.close()

    def discard(self) -> None:
        """Remove it: the dataset is written."""
        shutil.rmtree(self.folder)

    def __contains__(self, episode: Episode) -> bool:
        """Whether it has been played."""
        return self._path(episode).exists()

    def add(self, episode: Episode, found: ScriptedDemonstration) -> None:
        """Keep what came of an episode; of a failure only that."""
        arrays = {}
        if found.success:
            arrays = {"images": found.images_LCHW3, "state": found.state_TS, "action": found.action_TA}
        told = json.dumps({**dataclasses.asdict(Try.of(episode, found)), "instruction": found.instruction})
        path = self._path(episode)
        partial = path.with_suffix(".partial")
        with refuse_full_disk(path):
            with partial.open("wb") as file:
                np.savez_compressed(file, told=np.array(told), **arrays)
            partial.replace(path)

    def outcome(self, episode: Episode) -> Try:
        """What came of it."""
        told = json.loads(str(self._load(episode, "told")["told"]))
        return Try(**{field.name: told[field.name] for field in dataclasses.fields(Try)})

    def read(self, episode: Episode) -> EpisodeData:
        """The frames of a success."""
        arrays = self._load(episode, "images", "state", "action", "told")
        images_THW3 = {camera: arrays["images"][:, index] for index, camera in enumerate(LIBERO_PANDA.camera_names)}
        return EpisodeData(
            images=images_THW3,
            state=arrays["state"],
            action=arrays["action"],
            instruction=json.loads(str(arrays["told"]))["instruction"],
            success=True,
            seed=episode.seed,
            task=episode.task,
        )

    def _path(self, episode: Episode) -> Path:
        return self.folder / f"{episode.task.replace('/', '-')}-{episode.seed:02d}.npz"

    def _load(self, episode: Episode, *names: str) -> Mapping[str, Any]:
        path = self._path(episode)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return {name: stored[name] for name in names}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise VlaError(f"{path} is damaged ({error}); delete it, and it is made again") from error
