"""What the tests of the second backend share; they run on Warp's CPU device, slowly but correctly."""

import pytest
import torch

GPU = [pytest.param("cuda:0", marks=pytest.mark.gpu)] if torch.cuda.is_available() else []


@pytest.fixture(scope="session", params=["cpu", *GPU])
def anywhere(request):
    """Where mujoco_warp runs; what is compared bit for bit runs `on_cpu`."""
    from piper_twin.mjwarp.device import WarpConfig

    return WarpConfig(device=request.param)


@pytest.fixture(scope="session")
def lane(anywhere):
    """One order of work there; kernels lie in the user's cache."""
    from piper_twin.mjwarp.device import find_device
    from piper_twin.mjwarp.kernel_cache import open_kernel_cache
    from piper_twin.mjwarp.lane import Lane

    open_kernel_cache(None)
    return Lane(find_device(anywhere.device))


@pytest.fixture(scope="session")
def on_cpu():
    from piper_twin.mjwarp.device import WarpConfig

    return WarpConfig(device="cpu")
