"""Writing files so that a killed process or a full disk never leaves half of one behind."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vla_policy.errors import VlaError

_REMEDIES: dict[int, str] = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; choose a folder you may write to",
}
_FULL = 65536
"""Less free space than this counts as none [B]."""


@contextlib.contextmanager
def refuse_full_disk(path: Path) -> Iterator[None]:
    """Turn the refusal to write to `path` into one line with a remedy, whichever library met it.

    Raises:
        VlaError: the disk is full, read-only, or not ours to write to. Any other error passes through.
    """
    try:
        yield
    except VlaError:
        raise
    except Exception as error:
        number = getattr(error, "errno", None)
        full = number is None and ("No space left" in str(error) or _is_full(path))  # safetensors, torch: no errno
        remedy = _REMEDIES.get(errno.ENOSPC if full else number or 0)
        if remedy is None:
            raise
        raise VlaError(f"cannot write {path}: {remedy}") from error


def _is_full(path: Path) -> bool:
    """True when less than a page or so is left where `path` is or would be."""
    folder = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    return shutil.disk_usage(folder).free < _FULL


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content` in one step: a reader sees the old file or the new one, never a part.

    Raises:
        VlaError: the disk is full; the old file is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    with refuse_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
