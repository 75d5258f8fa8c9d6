"""Networks from a config or from a folder, whatever their design."""

from __future__ import annotations

from pathlib import Path

import torch

from vla_policy import checkpoint, precision
from vla_policy.checkpoint import Checkpoint
from vla_policy.config import PolicyConfig, VlaConfig
from vla_policy.embodiment import Embodiment
from vla_policy.errors import VlaError
from vla_policy.network import VlaNetwork
from vla_policy.openvla.config import OpenVlaConfig
from vla_policy.origin import Adapted, AdapterSize
from vla_policy.sequence import ActionSequence


def build(config: PolicyConfig, seed: int, device: torch.device | str = "cpu") -> ActionSequence:
    """Make an untrained network; torch's own generator is left alone."""
    if isinstance(config, OpenVlaConfig):
        from vla_policy.openvla.network import OpenVlaNetwork  # only those who need it wait for it

        return OpenVlaNetwork.fresh(config, device, precision.compute_dtype(torch.device(device).type), seed)
    assert isinstance(config, VlaConfig)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VlaNetwork(config).to(device).eval()


def read(
    folder: Path, device: torch.device | str, robot: Embodiment | None, dtype: torch.dtype | None
) -> tuple[ActionSequence, Checkpoint]:
    """Read a checkpoint folder of ours, of OpenVLA-OFT's, or of adapters to one; arguments as in `VlaPolicy.load`.

    Raises:
        VlaError: the checkpoint is damaged, or was made for another robot.
    """
    from vla_policy.openvla import folder as published  # it reads checkpoints itself

    if checkpoint.is_adapted(folder):
        from vla_policy.openvla import adapter_folder  # brings peft

        return adapter_folder.load(folder, device, robot, dtype)
    if published.is_published(folder):
        return published.load(folder, device, robot, dtype)
    parts = checkpoint.load(folder, device)
    if robot is not None:
        robot.require_same(parts.embodiment, f"checkpoint {folder}")
    network = build(parts.config, seed=0)
    checkpoint.require_fitting(parts.weights, network.state_dict(), f"checkpoint {folder}")
    network.load_state_dict(parts.weights)
    return network, parts


def adapt(network: ActionSequence, base: Path | None, size: AdapterSize, seed: int) -> Adapted:
    """Give a network adapters; arguments and errors as in `VlaPolicy.adapt`."""
    if not isinstance(network.config, OpenVlaConfig):
        raise VlaError("adapters are for OpenVLA-OFT's networks; ours are small: train all of them")
    from vla_policy.openvla import adapters
    from vla_policy.openvla.network import OpenVlaNetwork

    assert isinstance(network, OpenVlaNetwork)
    adapters.attach(network, size, seed)
    digest = checkpoint.weights_sha256(base) if base else ""
    return Adapted(size=size, folder=base.absolute() if base else None, sha256=digest)


def restore(
    network: ActionSequence, folder: Path, adapted: Adapted | None, device: torch.device, robot: Embodiment
) -> None:
    """Fill a network from a checkpoint of its own; arguments and errors as in `VlaPolicy.restore`."""
    if adapted is not None:
        from vla_policy.openvla import adapter_folder
        from vla_policy.openvla.network import OpenVlaNetwork

        assert isinstance(network, OpenVlaNetwork)
        return adapter_folder.restore(network, adapted, folder)
    stored, _ = read(folder, device, robot, network.llama.embed_tokens.weight.dtype)
    network.load_state_dict(stored.state_dict())
