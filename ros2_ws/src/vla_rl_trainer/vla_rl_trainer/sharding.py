"""All weights of a network trained by several processes: each keeps its share of float32 weights and moments (FSDP2).

The network that learns is cut up; its layers are put together one at a time while it learns, in the precision of the
weights that answer. What answers is a whole network on every GPU, refreshed once after learning. Rollouts thereby need
no word between the processes: each goes on as fast as its worlds do, and may stop where it likes. The whole network
costs 15 GB of bfloat16 on every GPU; putting layers together for every batch would cost as much traffic every batch.

Adapters are small: every process has all of them, and their gradients are added up.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from vla_policy.policy import VlaPolicy
from vla_policy.sequence import ActionSequence
from vla_rl_trainer import ranks
from vla_rl_trainer.optimizer import parameters


def shard(policy: VlaPolicy) -> None:
    """Let a policy learn on a network that all processes share; what answered before goes on answering.

    All processes must have loaded the same weights.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    dtype = policy.network.llama.embed_tokens.weight.dtype
    learning = copy.deepcopy(policy.network).float()
    mesh = init_device_mesh(policy.device.type, (ranks.here().count,))
    if dtype == torch.float32:  # in lower precision only where autocast says so
        precision = MixedPrecisionPolicy()
    else:
        precision = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for layers in [module for module in learning.modules() if isinstance(module, nn.ModuleList)]:
        for layer in layers:
            fully_shard(layer, mesh=mesh, mp_policy=precision)
    policy.network = cast("ActionSequence", fully_shard(learning, mesh=mesh, mp_policy=precision))


def is_sharded(network: nn.Module) -> bool:
    """Whether a network is cut up among processes."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(network, FSDPModule)


def gradient_factor(policy: VlaPolicy) -> int:
    """What a loss is multiplied by so that gradients are added up over the processes; cut-up networks average them."""
    return ranks.here().count if ranks.here().count > 1 and is_sharded(policy.network) else 1


def add_up_gradients(policy: VlaPolicy, optimizer: torch.optim.Optimizer) -> None:
    """Add up the processes' gradients where the network does not do so itself."""
    if ranks.here().count > 1 and not is_sharded(policy.network):
        ranks.add_up(weight.grad for weight in parameters(optimizer) if weight.grad is not None)


@torch.no_grad()
def refresh(policy: VlaPolicy) -> None:
    """Bring what was learned into the network that answers."""
    if policy.whole is policy.network:
        return
    whole = dict(policy.whole.named_parameters())
    for name, weight in policy.network.named_parameters():
        whole[name].copy_(together(weight.to(whole[name].dtype)))


def together(weight: Tensor) -> Tensor:
    """All of a weight, wherever its parts lie."""
    from torch.distributed.tensor import DTensor

    return weight.full_tensor() if isinstance(weight, DTensor) else weight


def own_part(weight: Tensor) -> Tensor:
    """This process's part of a weight."""
    from torch.distributed.tensor import DTensor

    return weight.to_local() if isinstance(weight, DTensor) else weight
