"""LoRA on the published network: what `peft` puts into its linear layers, trained instead of them, or folded into them.

Every linear layer that takes part gets an adapter: of the language model, the towers and the projectors. The towers'
last blocks and poolings, and the vocabulary's other rows, take part in nothing; they are not in the network at all.
The head keeps its 256 rows as they are, unless it is trained whole.

Adapters go by their layer's published name, because `transformers` renames its own from version to version. Those of
the language model are thereby named as OpenVLA-OFT's are.

R rank, I inputs of a layer, O its outputs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_policy.errors import VlaError
from vla_policy.openvla import weights
from vla_policy.openvla.network import OpenVlaNetwork
from vla_policy.origin import AdapterSize

_NAME = "default"
"""What peft calls an adapter that has no other name."""
_NO_ADAPTER = ("head", "l1_head")


def attach(network: OpenVlaNetwork, size: AdapterSize, seed: int = 0) -> None:
    """Freeze a network and give it adapters that change nothing yet.

    Raises:
        VlaError: it has adapters already, lacks a part to be trained whole, or peft is not installed.
    """
    if is_attached(network):
        raise VlaError("this network has adapters already; merge them first: python -m vla_policy.openvla.merge")
    if missing := [part for part in size.whole if not hasattr(network, part)]:
        raise VlaError(f"this network has no {missing[0]} that could be trained whole")
    without = (*_NO_ADAPTER, *size.whole)
    targets = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[0] not in without
    ]
    peft = _peft()
    config = peft.LoraConfig(r=size.rank, lora_alpha=size.alpha, target_modules=targets, lora_dropout=0.0, bias="none")
    network.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):  # peft draws; what it drew is replaced below
        peft.inject_adapter_in_model(config, network)
    generator = torch.Generator().manual_seed(seed)
    for _, layer in layers(network):
        first_RI, second_OR = _factors(layer)
        drawn = torch.randn(first_RI.shape, generator=generator) / size.rank
        first_RI.data.copy_(drawn)
        second_OR.data.zero_()
        layer.__class__ = _adapted_linear()
    for part in size.whole:
        network.get_submodule(part).requires_grad_(True)


def is_attached(network: nn.Module) -> bool:
    """Whether a network has adapters."""
    return next(layers(network), None) is not None


def layers(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Layers with adapters, by our names."""
    for name, module in network.named_modules():
        if hasattr(module, "lora_A"):
            yield name, module


def trained(network: OpenVlaNetwork, whole: tuple[str, ...]) -> dict[str, Tensor]:
    """What is trained of a network with adapters, by the names it is stored under."""
    found: dict[str, Tensor] = {}
    for name, layer in layers(network):
        stored = weights.layer_name(name, network.config)
        first_RI, second_OR = _factors(layer)
        found |= {f"{stored}.lora_A.weight": first_RI, f"{stored}.lora_B.weight": second_OR}
    for part in whole:
        found |= {f"{part}.{name}": weight for name, weight in network.get_submodule(part).named_parameters()}
    return found


def take_over(network: OpenVlaNetwork, whole: tuple[str, ...], stored: Mapping[str, Tensor], owner: str) -> None:
    """Fill the trained parts of a network from what was stored.

    Raises:
        VlaError: names or shapes are not the network's.
    """
    wanted = trained(network, whole)
    if wrong := sorted(wanted.keys() ^ stored.keys()):
        what = "lacks" if wrong[0] in wanted else "has unknown"
        raise VlaError(f"{owner} {what} {wrong[0]} ({len(wrong)} such names); it was trained on another base")
    for name, weight in wanted.items():
        if weight.shape != stored[name].shape:
            raise VlaError(
                f"{owner}: {name} has shape {tuple(stored[name].shape)}, the base asks for {tuple(weight.shape)}; "
                "it was trained on another base"
            )
        weight.data.copy_(stored[name])


@torch.no_grad()
def fold(network: OpenVlaNetwork) -> float:
    """Add what the adapters learned to the layers' weights, and remove them.

    Returns:
        What rounding to the weights' precision lost or added, as a share of the change: root mean square over all
        weights. A change far below half a step of bfloat16 is lost altogether (1.0).
    """
    change = error = 0.0
    for name, layer in list(layers(network)):
        base: nn.Linear = layer.base_layer
        first_RI, second_OR = _factors(layer)
        wanted = layer.scaling[_NAME] * (second_OR.float() @ first_RI.float())
        after = (base.weight.float() + wanted).to(base.weight.dtype)
        change += float(wanted.square().sum(dtype=torch.float64))
        error += float((after.float() - base.weight.float() - wanted).square().sum(dtype=torch.float64))
        base.weight.copy_(after)
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, base)
    network.requires_grad_(True)
    return math.sqrt(error / change) if change else 0.0


def _forward(layer: Any, inputs: Tensor) -> Tensor:
    """What peft's layer computes, with the change added in the product itself: outputs are written once, not thrice."""
    outputs = layer.base_layer(inputs)
    first_RI, second_OR = _factors(layer)
    low = functional.linear(inputs, first_RI).flatten(0, -2)
    changed = torch.addmm(outputs.flatten(0, -2), low, second_OR.T, alpha=layer.scaling[_NAME])
    return changed.view_as(outputs)


@functools.cache
def _adapted_linear() -> type[nn.Module]:
    """Peft's layer, computed our way."""
    return type("AdaptedLinear", (_peft().tuners.lora.layer.Linear,), {"forward": _forward})


def _factors(layer: Any) -> tuple[nn.Parameter, nn.Parameter]:
    return cast("nn.Parameter", layer.lora_A[_NAME].weight), cast("nn.Parameter", layer.lora_B[_NAME].weight)


def _peft() -> Any:
    try:
        import peft  # takes seconds, and only those who train adapters have it
    except ImportError as error:
        raise VlaError(f"adapters need peft ({error}); install it: pip install peft") from error
    return peft
