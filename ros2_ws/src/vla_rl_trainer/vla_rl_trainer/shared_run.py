"""The run folder of processes that share a run: the first one writes, all are told what it says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, SupportsFloat

from vla_rl_trainer import ranks
from vla_rl_trainer.run_folder import Run


class SharedRun:
    """What training asks of a `Run`, to be asked in all processes at once."""

    def __init__(self, run: Run | None, path: Path) -> None:
        """`run` is the first process's; the others have none."""
        self._run = run
        self.path = path

    def __enter__(self) -> SharedRun:
        """Return the run itself."""
        return self

    def __exit__(self, *raised: Any) -> None:
        """Close the run."""
        if self._run is not None:
            self._run.__exit__(*raised)

    def log(self, step: int, metrics: Mapping[str, SupportsFloat]) -> None:
        """As `Run.log`, with the first process's metrics."""
        if self._run is not None:
            self._run.log(step, metrics)

    def metrics(self) -> list[dict[str, Any]]:
        """As `Run.metrics`."""
        return ranks.of_first(None if self._run is None else self._run.metrics())

    def truncate_metrics(self, step: int) -> None:
        """As `Run.truncate_metrics`."""
        if self._run is not None:
            self._run.truncate_metrics(step)

    def checkpoint_path(self, step: int) -> Path:
        """As `Run.checkpoint_path`."""
        return self.path / "checkpoints" / f"step_{step:06d}"

    @contextlib.contextmanager
    def saving_checkpoint(self, step: int) -> Iterator[Path]:
        """As `Run.saving_checkpoint`; it appears once all processes have written their part."""
        with contextlib.ExitStack() as stack:
            folder = None if self._run is None else str(stack.enter_context(self._run.saving_checkpoint(step)))
            yield Path(ranks.of_first(folder))
            ranks.wait()
        ranks.wait()

    def latest_checkpoint(self) -> Path | None:
        """As `Run.latest_checkpoint`."""
        latest = None if self._run is None else self._run.latest_checkpoint()
        found = ranks.of_first(None if latest is None else str(latest))
        return None if found is None else Path(found)


def open_run(path: Path, settings: Mapping[str, Any], *more: Any) -> Run | SharedRun:
    """Resume the run at `path`, or start it; arguments and errors as in `Run.open_or_create`."""
    here = ranks.here()
    if here.count == 1:
        return Run.open_or_create(path, settings, *more)
    return SharedRun(Run.open_or_create(path, settings, *more) if here.is_first else None, Path(path))
