"""Which backend is taken, and what is said where it cannot be."""

import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("mujoco_warp", reason='install it with pip install -c constraints.txt -e ".[warp]"')

from piper_twin.compiled_task import compiled_task
from piper_twin.mjwarp import device
from piper_twin.mjwarp.device import WarpConfig, choose_backend, find_device
from piper_twin.mjwarp.memory import bytes_per_world, require_memory
from vla_policy.errors import VlaError


@pytest.fixture
def cuda(monkeypatch):
    """Whether CUDA seems to be there."""
    device._say_once.cache_clear()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return lambda there: monkeypatch.setattr(torch.cuda, "is_available", lambda: there)


def test_auto_takes_warp_where_cuda_is_and_else_says_once_that_it_does_not(cuda, capsys):
    cuda(True)
    assert choose_backend("auto") == "warp"
    assert capsys.readouterr().err == ""
    cuda(False)
    assert [choose_backend("auto"), choose_backend("auto")] == ["mujoco", "mujoco"]
    assert capsys.readouterr().err == "backend auto: no CUDA device here, so MuJoCo steps the twin on the CPU\n"


def test_a_backend_that_was_asked_for_is_taken(cuda):
    cuda(False)
    assert choose_backend("mujoco") == "mujoco"
    assert choose_backend("warp") == "warp"
    with pytest.raises(VlaError, match="backend 'gpu' does not exist; choose one of auto, mujoco, warp, mixed"):
        choose_backend("gpu")


def test_without_mujoco_warp_one_is_told_how_to_install_it(cuda, monkeypatch, capsys):
    cuda(True)
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(VlaError, match=r'pip install -c constraints\.txt -e "\.\[warp\]", or choose --backend mujoco'):
        choose_backend("warp")
    assert choose_backend("auto") == "mujoco"
    assert "no mujoco_warp" in capsys.readouterr().err


def test_devices_are_those_there_are(cuda):
    cuda(True)
    assert find_device("auto") == find_device("cuda") == find_device("cuda:0") == torch.device("cuda", 0)
    assert find_device("cuda:1") == torch.device("cuda", 1)
    assert find_device("cpu") == torch.device("cpu")
    for wrong in ("cuda:2", "cuda:one"):
        with pytest.raises(VlaError, match="has cuda:0 to cuda:1"):
            find_device(wrong)
    with pytest.raises(VlaError, match="give cuda:0, cpu or auto"):
        find_device("tpu")
    cuda(False)
    with pytest.raises(VlaError, match=r"no CUDA device .* choose --backend mujoco, or --device cpu"):
        find_device("auto")


def test_more_worlds_than_the_memory_holds_are_refused_with_the_number_that_fits(lane, monkeypatch):
    compiled, config = compiled_task("click_bell"), WarpConfig()
    each = bytes_per_world("click_bell", config)
    assert 150_000 < each < 1_000_000, "three images of 48 kB and the physics"
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100 * each, 200 * each))
    require_memory(compiled, 40, config, torch.device("cuda", 0))
    with pytest.raises(VlaError, match=r"100 worlds of click_bell need about .* GiB free: 45 would fit; give fewer"):
        require_memory(compiled, 100, config, torch.device("cuda", 0))


def test_buffers_hold_something():
    with pytest.raises(VlaError, match="count from 1"):
        WarpConfig(contacts_per_world=0)


def test_choosing_a_backend_loads_neither_warp_nor_mujoco():
    code = "import sys, piper_twin.mjwarp.device; print(*{'warp', 'mujoco_warp', 'mujoco'} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
