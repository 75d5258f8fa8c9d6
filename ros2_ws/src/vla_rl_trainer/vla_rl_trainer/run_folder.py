"""A run folder: everything one training or evaluation run leaves behind, and what it needs to go on after a kill.

    runs/<name>/config.yaml          the resolved configuration; another one is refused
                metrics.jsonl        one line a step, flushed at once
                checkpoints/step_*   each appears whole or not at all
                summary.json         the result
                report.html, videos/, tensorboard/

One process writes to a run folder at a time; anyone may read.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, SupportsFloat

from vla_policy.errors import VlaError
from vla_rl_trainer.disk import refuse_full_disk, write_atomically
from vla_rl_trainer.folder_lock import FolderLock
from vla_rl_trainer.run_files import finite, first_difference, plain, read_config, read_metrics, to_yaml, without_nan
from vla_rl_trainer.trackers import Tracker, make_trackers


class Run:
    """One run folder, locked against a second writer until `close`. Use it as a context manager."""

    def __init__(self, path: Path, config: dict[str, Any], lock: FolderLock) -> None:
        """Not for callers: use `create`, `open` or `open_or_create`."""
        self.path = path
        self.config = config
        self._lock = lock
        self._trackers: list[Tracker] | None = None
        self._is_new = False

    @staticmethod
    def create(path: str | Path, config: Mapping[str, Any]) -> Run:
        """Make a new run folder.

        Raises:
            VlaError: the folder already holds something.
        """
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(entry.name != ".lock" for entry in path.iterdir())):
            raise VlaError(f"{path} already exists; choose another --out or delete it")
        with refuse_full_disk(path):
            path.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(path)
        resolved = plain(config)
        try:
            write_atomically(path / "config.yaml", to_yaml(resolved))
        except BaseException:
            lock.close()
            raise
        run = Run(path, resolved, lock)
        run._is_new = True
        return run

    @staticmethod
    def open(path: str | Path) -> Run:
        """Open an existing run folder for writing.

        Raises:
            VlaError: there is no run there, its config.yaml is damaged, or another process writes to it.
        """
        path = Path(path)
        config = read_config(path)
        run = Run(path, config, FolderLock(path))
        run._drop_torn_line()
        return run

    @staticmethod
    def open_or_create(
        path: str | Path,
        config: Mapping[str, Any],
        may_differ: Collection[str] = (),
        defaults: Mapping[str, Any] | None = None,
    ) -> Run:
        """Resume the run at `path`, or start it.

        Args:
            path: The run folder.
            config: The resolved configuration of this start.
            may_differ: Dotted keys whose value may change between starts (`num_workers`, `num_steps`); the new
                value is recorded.
            defaults: What stands for keys that the folder's configuration lacks, being older than the option.

        Raises:
            VlaError: the folder was made with another configuration, or holds something that is not a run.
        """
        path = Path(path)
        if not (path / "config.yaml").exists():
            return Run.create(path, config)
        wanted = plain(config)
        difference = first_difference(read_config(path), wanted, may_differ, plain(defaults or {}))
        if difference is not None:
            key, stored, asked = difference
            raise VlaError(
                f"{path} was made with {key} = {stored}, now {key} = {asked} is asked for; "
                "choose another --out or delete the folder"
            )
        run = Run.open(path)
        if run.config != wanted:
            write_atomically(path / "config.yaml", to_yaml(wanted))
            run.config = wanted
        return run

    def __enter__(self) -> Run:
        """Return the run itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Close the run. A new one that failed before it wrote anything is taken back, so that it bars no other."""
        if kind is not None and self._is_new and set(os.listdir(self.path)) == {".lock", "config.yaml"}:
            (self.path / "config.yaml").unlink()
        self.close()

    def close(self) -> None:
        """Flush the trackers and give the folder free."""
        try:
            for tracker in self._trackers or []:
                tracker.close()
        finally:
            self._trackers = None
            self._lock.close()

    def log(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """Append one line to metrics.jsonl and tell the trackers.

        Args:
            step: Number of the step; lines are kept in the order they come.
            metrics: Name to value; a value that is not finite is stored as null.

        Raises:
            VlaError: the disk is full.
        """
        numbers = {name: float(value) for name, value in metrics.items()}
        line = json.dumps({"step": step, **{name: finite(value) for name, value in numbers.items()}}) + "\n"
        with refuse_full_disk(self.metrics_path), self.metrics_path.open("a") as file:
            file.write(line)
        if self._trackers is None:
            self._trackers = make_trackers(self.path, self.config)
        for tracker in self._trackers:
            tracker.log(step, numbers)

    def metrics(self) -> list[dict[str, Any]]:
        """All complete lines of metrics.jsonl."""
        return read_metrics(self.path)

    def truncate_metrics(self, step: int) -> None:
        """Forget every line of `step` and later, and a torn last one: call it when resuming before `step`."""
        kept = [line for line in self.metrics() if line["step"] < step]
        if self.metrics_path.exists():
            write_atomically(self.metrics_path, "".join(json.dumps(line) + "\n" for line in kept))

    def _drop_torn_line(self) -> None:
        """Cut what a kill or a full disk left after the last newline, so that the next line starts on its own."""
        if not self.metrics_path.exists():
            return
        content = self.metrics_path.read_bytes()
        with refuse_full_disk(self.metrics_path), self.metrics_path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint after `step` steps lies, whether it exists or not."""
        return self.path / "checkpoints" / f"step_{step:06d}"

    @contextlib.contextmanager
    def saving_checkpoint(self, step: int) -> Iterator[Path]:
        """A folder to fill; on leaving without an error it becomes `checkpoint_path(step)` in one move.

        Raises:
            VlaError: the disk is full; no half checkpoint is left.
        """
        final = self.checkpoint_path(step)
        partial = final.with_name(f".{final.name}.partial")
        with refuse_full_disk(final):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                yield partial
                shutil.rmtree(final, ignore_errors=True)
                partial.rename(final)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise

    def checkpoint_steps(self) -> list[int]:
        """Steps of all complete checkpoints, ascending."""
        folders = (self.path / "checkpoints").glob("step_*")
        return sorted(int(folder.name[5:]) for folder in folders if folder.name[5:].isdigit() and any(folder.iterdir()))

    def latest_checkpoint(self) -> Path | None:
        """The complete checkpoint of the highest step, None when there is none."""
        steps = self.checkpoint_steps()
        return self.checkpoint_path(steps[-1]) if steps else None

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace summary.json in one step."""
        write_atomically(self.summary_path, json.dumps(without_nan(plain(summary)), indent=2) + "\n")

    @property
    def metrics_path(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def summary_path(self) -> Path:
        """The result, for scripts."""
        return self.path / "summary.json"

    @property
    def report_path(self) -> Path:
        """The result, for people."""
        return self.path / "report.html"

    @property
    def videos_path(self) -> Path:
        """Folder of videos, made when first asked for."""
        folder = self.path / "videos"
        with refuse_full_disk(folder):
            folder.mkdir(exist_ok=True)
        return folder
