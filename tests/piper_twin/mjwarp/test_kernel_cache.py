"""Kernels are kept, shipped, and refused where nobody would load them."""

import tarfile
from pathlib import Path

import pytest
import torch

pytest.importorskip("mujoco_warp", reason='install it with pip install -c constraints.txt -e ".[warp]"')

from piper_twin.mjwarp import kernel_cache
from piper_twin.mjwarp.kernel_cache import open_kernel_cache, pack, unpack
from vla_policy.errors import VlaError

CPU = torch.device("cpu")


def make_kernels(folder: Path, processor: str = "cpu1a2b") -> Path:
    module = folder / "wp_module_0123456"
    module.mkdir(parents=True)
    (module / f"wp_module_0123456.{processor}.o").write_bytes(b"machine code")
    (module / "wp_module_0123456.meta").write_text("{}")
    (module / "wp_module_0123456.cpp").write_text("source")
    return folder


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_packed_kernels_arrive_without_their_sources(tmp_path):
    pack(make_kernels(tmp_path / "there"), tmp_path / "kernels.tar.gz")
    here = tmp_path / "here"
    here.mkdir()
    assert unpack(tmp_path / "kernels.tar.gz", here, CPU) == 2
    names = ["wp_module_0123456/wp_module_0123456.cpu1a2b.o", "wp_module_0123456/wp_module_0123456.meta"]
    assert files_of(here) == names
    assert unpack(tmp_path / "kernels.tar.gz", here, CPU) == 2, "again does no harm"


def test_stale_kernels_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_cache, "_versions", lambda: {"warp-lang": "1.0", "mujoco-warp": "3.0"})
    pack(make_kernels(tmp_path / "there"), tmp_path / "kernels.tar.gz")
    monkeypatch.undo()
    with pytest.raises(VlaError, match=r"'warp-lang': '1\.0'.* installed is .*; build them here instead"):
        unpack(tmp_path / "kernels.tar.gz", tmp_path, CPU)


def test_kernels_of_another_gpu_are_refused(tmp_path, monkeypatch):
    pack(make_kernels(tmp_path / "there", "sm80"), tmp_path / "kernels.tar.gz")
    monkeypatch.setattr(kernel_cache.wp, "get_device", lambda _: type("Device", (), {"arch": 90}))
    with pytest.raises(VlaError, match=r"kernels for \['sm80'\], cuda:0 is sm90; build them here"):
        unpack(tmp_path / "kernels.tar.gz", tmp_path, torch.device("cuda", 0))


def test_what_is_no_archive_of_kernels_is_refused_in_one_line(tmp_path):
    (tmp_path / "noise.tar.gz").write_bytes(b"noise")
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz"):
        pass
    for name in ("noise", "other", "missing"):
        with pytest.raises(VlaError, match="holds no kernels that can be read"):
            unpack(tmp_path / f"{name}.tar.gz", tmp_path, CPU)
    with pytest.raises(VlaError, match="build them first"):
        pack(tmp_path, tmp_path / "kernels.tar.gz")


def test_nothing_is_overwritten_by_an_archive(tmp_path):
    (tmp_path / "kernels.tar.gz").write_text("precious")
    with pytest.raises(VlaError, match="exists; choose another name"):
        pack(make_kernels(tmp_path / "there"), tmp_path / "kernels.tar.gz")


def test_one_process_has_one_kernel_cache(lane, tmp_path):
    folder = open_kernel_cache(None)
    assert folder.is_dir()
    assert open_kernel_cache(folder.parent) == folder
    with pytest.raises(VlaError, match="already; one process has one kernel cache"):
        open_kernel_cache(tmp_path)
