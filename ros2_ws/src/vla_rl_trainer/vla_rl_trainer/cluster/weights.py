"""What a policy that samples needs of the one that learns: its weights, as bytes that travel once to every node."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load, save
from torch import Tensor

from vla_policy.policy import VlaPolicy


def pack_weights(policy: VlaPolicy) -> npt.NDArray[np.uint8]:
    """Weights in safetensors' layout; of a network with adapters only what is trained, for the base is everywhere."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in _travelling(policy).items()}
    return np.frombuffer(save(tensors), dtype=np.uint8)


@torch.no_grad()
def take_weights(policy: VlaPolicy, packed: npt.NDArray[np.uint8]) -> None:
    """Write weights into a policy, in place: recorded answers stay true."""
    own = _travelling(policy)
    for name, tensor in load(packed.tobytes()).items():
        own[name].copy_(tensor)


def _travelling(policy: VlaPolicy) -> Mapping[str, Tensor]:
    if policy.adapted is None:
        return policy.whole.state_dict()
    return {name: weight for name, weight in policy.whole.named_parameters() if weight.requires_grad}
