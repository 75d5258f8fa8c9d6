"""Where LIBERO's meshes and textures are: they are in no Python package, and their licences keep them out of ours."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
from pathlib import Path
from typing import Any

from vla_policy.errors import VlaError

VARIABLE = "LIBERO_ASSETS"
_SIGN = "scenes/libero_floor_base_style.xml"
"""A file that every complete copy has."""
STAND_IN_NOTE = "SOURCES.md"
"""A copy with stand-ins for some meshes says so in this file."""


def _package_folder() -> Path | None:
    spec = importlib.util.find_spec("libero")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "libero" / "assets"


def _download() -> Path:
    """Let hf-libero fetch its own copy; it is kept in Hugging Face's cache."""
    utils: Any = importlib.import_module("huggingface_hub")
    with contextlib.redirect_stdout(io.StringIO()):
        return Path(utils.snapshot_download("lerobot/libero-assets", repo_type="dataset"))


def find_assets() -> Path:
    """The folder with LIBERO's assets: `LIBERO_ASSETS`, else inside the installed package, else downloaded.

    Raises:
        VlaError: there are none; the message says how to get them.
    """
    if told := os.environ.get(VARIABLE):
        if not (Path(told) / _SIGN).is_file():
            raise VlaError(f"{VARIABLE} is {told}, but {_SIGN} is not in there; point it at LIBERO's assets folder")
        return Path(told)
    inside = _package_folder()
    if inside is not None and (inside / _SIGN).is_file():
        return inside
    try:
        found = _download()
    except Exception as error:  # huggingface_hub, httpx and the operating system each raise their own
        raise VlaError(
            f"LIBERO's assets are neither installed nor can they be downloaded ({type(error).__name__}); on a machine "
            f"with a network run: hf download lerobot/libero-assets --repo-type dataset, then set {VARIABLE} to that "
            "folder"
        ) from error
    for folder in (found, found / "assets"):
        if (folder / _SIGN).is_file():
            return folder
    raise VlaError(f"the download in {found} lacks {_SIGN}; delete it and try again, or set {VARIABLE}")


def has_stand_ins(assets: Path) -> bool:
    """True for a copy in which our own shapes and colours stand for files that were missing."""
    note = assets / STAND_IN_NOTE
    return note.is_file() and "stand-in" in note.read_text(encoding="utf-8", errors="replace")
