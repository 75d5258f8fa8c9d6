"""Compiled kernels of Warp: kept between runs, and taken along to machines of the same kind.

    python -m piper_twin.mjwarp.kernel_cache build                      # all that the twin's tasks need: minutes
    python -m piper_twin.mjwarp.kernel_cache pack --file kernels.tar.gz
    python -m piper_twin.mjwarp.kernel_cache unpack --file kernels.tar.gz

They lie in `--warp.kernel-cache`, else `WARP_CACHE_PATH`, else the user's cache. Warp names every kernel after its
source, its own version and the processor, so it never loads a foreign or stale one, it compiles anew; what could go
wrong is to ship kernels that nobody loads, and that is refused here.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import io
import json
import re
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
import warp as wp

from piper_twin.exit_codes import exit_after
from piper_twin.mjwarp.device import find_device
from vla_policy.errors import VlaError

NOTE = "made_for.json"
_BINARY = re.compile(r"\.(sm\d+\w*|cpu\w*)\.(?:cubin|ptx|o)$")
"""Ends the names of compiled kernels: the processor they are for."""

_opened: list[Path] = []


def open_kernel_cache(wanted: Path | None) -> Path:
    """Start Warp with its kernels in `wanted`, its own choice when None; says so where they must be compiled first.

    Raises:
        VlaError: Warp runs already, with its kernels elsewhere.
    """
    if not _opened:
        wp.config.quiet = True
        wp.config.cuda_output = "cubin"  # PTX would be translated once more by the driver of every machine it gets to
        if wanted is not None:
            wp.config.kernel_cache_dir = str(wanted)
        wp.init()
        _opened.append(Path(wp.config.kernel_cache_dir or ""))
        if not _processors(_opened[0]):
            print(f"compiling kernels into {_opened[0]}: minutes, the first time", file=sys.stderr, flush=True)
    elif wanted is not None and _opened[0].parent != wanted.resolve():
        raise VlaError(f"Warp keeps its kernels in {_opened[0].parent} already; one process has one kernel cache")
    return _opened[0]


def _processors(folder: Path) -> set[str]:
    """What the kernels in a folder are for."""
    found = (_BINARY.search(path.name) for path in folder.glob("wp_*/*"))
    return {match[1] for match in found if match}


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("warp-lang", "mujoco-warp")}


def pack(folder: Path, file: Path) -> None:
    """Put all kernels of a folder into one file.

    Raises:
        VlaError: there are none, or the file exists.
    """
    processors = _processors(folder)
    if not processors:
        raise VlaError(f"{folder} holds no kernels; build them first")
    if file.exists():
        raise VlaError(f"{file} exists; choose another name")
    note = json.dumps({"versions": _versions(), "processors": sorted(processors)}).encode()
    with tarfile.open(file, "w:gz") as archive:
        header = tarfile.TarInfo(NOTE)
        header.size = len(note)
        archive.addfile(header, io.BytesIO(note))
        for path in sorted(folder.glob("wp_*/*")):
            if path.suffix != ".cpp" and path.suffix != ".cu":
                archive.add(path, path.relative_to(folder).as_posix())


def unpack(file: Path, folder: Path, device: torch.device) -> int:
    """Add the kernels of a file to a folder; returns how many files came.

    Raises:
        VlaError: the file is damaged, or its kernels would never be loaded here.
    """
    try:
        with tarfile.open(file, "r:gz") as archive:
            note = archive.extractfile(NOTE)
            _require_ours(json.load(note) if note else {}, file, device)
            with tempfile.TemporaryDirectory(dir=folder) as fresh:
                archive.extractall(fresh, filter="data")
                return _move(Path(fresh), folder)
    except (OSError, KeyError, ValueError, EOFError, tarfile.TarError) as error:
        raise VlaError(f"{file} holds no kernels that can be read ({error}); pack them again") from error


def _move(fresh: Path, folder: Path) -> int:
    files = [path for path in fresh.glob("wp_*/*") if path.is_file()]
    for path in files:
        target = folder / path.relative_to(fresh)
        target.parent.mkdir(exist_ok=True)
        path.replace(target)
    return len(files)


def _require_ours(note: dict[str, Any], file: Path, device: torch.device) -> None:
    here = _versions()
    if note.get("versions") != here:
        raise VlaError(f"{file} holds kernels of {note.get('versions')}, installed is {here}; build them here instead")
    if device.type == "cuda":
        mine = f"sm{wp.get_device(str(device)).arch}"
        if mine not in note["processors"]:
            raise VlaError(
                f"{file} holds kernels for {note['processors']}, {device} is {mine}; build them here instead"
            )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KernelCacheConfig:
    """What is done with the kernels."""

    do: tyro.conf.Positional[Literal["build", "pack", "unpack"]]
    file: Path = Path("kernels.tar.gz")
    """The archive."""
    kernel_cache: Path | None = None
    """Folder of the kernels."""
    device: str = "auto"
    """That they are for."""
    tasks: tuple[str, ...] = ("click_bell", "place_empty_cup", "pick_bottle", "stack_bowls", "move_can_pot")
    """Whose kernels are built."""


def main(config: KernelCacheConfig) -> None:
    """Build, pack or unpack."""
    device = find_device(config.device)
    folder = open_kernel_cache(config.kernel_cache)
    if config.do == "build":
        from piper_twin.mjwarp.build import build_kernels

        build_kernels(config.tasks, config.device)
        print(f"kernels for {', '.join(sorted(_processors(folder)))} in {folder}")
    elif config.do == "pack":
        pack(folder, config.file)
    else:
        print(f"{unpack(config.file, folder, device)} files into {folder}")


if __name__ == "__main__":
    exit_after(lambda: main(tyro.cli(KernelCacheConfig)))
