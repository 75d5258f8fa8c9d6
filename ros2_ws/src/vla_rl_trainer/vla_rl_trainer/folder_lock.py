"""One writer to a folder at a time.

POSIX record locks: the kernel drops them when the owner dies, whatever kills it, and worker processes that the owner
forked do not inherit them, so a run whose workers outlive a `kill -9` can still be resumed at once. They do not
exclude a second opener within one process; a set does that.
"""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from vla_policy.errors import VlaError
from vla_rl_trainer.disk import refuse_full_disk

_HELD: set[tuple[int, Path]] = set()


class FolderLock:
    """The right to write to a folder, from construction to `close`."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            VlaError: another process, or another owner in this one, holds it.
        """
        self._key = (os.getpid(), folder.resolve())
        if self._key in _HELD:
            raise VlaError(f"{folder} is already open for writing in this process; close it first")
        path = folder / ".lock"
        with refuse_full_disk(path):
            self._file = path.open("a+")
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            owner = self._file.read().strip() or "another process"
            self._file.close()
            raise VlaError(
                f"{folder} is being written by {owner}; wait for it, stop it, or choose another folder"
            ) from error
        _HELD.add(self._key)
        with refuse_full_disk(path):
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            self._file.flush()

    def close(self) -> None:
        """Give the lock back; doing so twice is harmless."""
        if self._key in _HELD and self._key[0] == os.getpid():
            _HELD.discard(self._key)
            self._file.close()
