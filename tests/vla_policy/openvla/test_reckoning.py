"""What is reckoned is what happens: operations as torch counts them, memory as the backward pass keeps it."""

import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vla_policy.inputs import PolicyInputs
from vla_policy.openvla.config import LIBERO_IMAGES, OpenVlaConfig, TowerConfig
from vla_policy.openvla.network import OpenVlaNetwork
from vla_policy.openvla.reckoning import activation_bytes, forward_flops, learner_flops, num_tokens, training_bytes

PROMPT = 9
CONFIG = OpenVlaConfig(
    camera_names=("head", "wrist"),
    image_size=56,
    dinov2=TowerConfig(width=64, num_blocks=4, mlp_width=256, patch_size=14, num_registers=4),
    siglip=TowerConfig(width=96, num_blocks=3, mlp_width=160, patch_size=14),
    hidden_size=128,
    num_layers=3,
    num_heads=4,
    num_kv_heads=4,
    intermediate_size=320,
    chunk_length=8,
    action_dim=7,
    use_proprio=True,
    state_dim=8,
    images=LIBERO_IMAGES,
)


def build(**changes):
    config = dataclasses.replace(CONFIG, **changes)
    network = OpenVlaNetwork.fresh(config, "cpu", torch.float32, seed=0)
    inputs = PolicyInputs(
        images_BCHW3=torch.randint(0, 256, (2, config.num_cameras, 56, 56, 3), dtype=torch.uint8),
        prompt_BL=torch.randint(3, 99, (2, PROMPT)),
        prompt_mask_BL=torch.ones(2, PROMPT, dtype=torch.bool),
        state_BS=torch.randn(2, config.state_dim),
    )
    return config, network, inputs


@pytest.mark.parametrize("changes", [{}, {"camera_names": ("head",), "use_proprio": False, "state_dim": 0}])
def test_operations_are_those_that_torch_counts(changes):
    config, network, inputs = build(**changes)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward, torch.no_grad():
        network(inputs)
    assert forward.get_total_flops() / 2 == pytest.approx(sum(forward_flops(config, PROMPT).values()), rel=1e-3)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as learner:
        network(inputs).sum().backward()
    # Pixels want no gradient, nor does attention's softmax count.
    assert learner.get_total_flops() / 2 == pytest.approx(learner_flops(config, PROMPT, False, False), rel=0.03)


def test_the_sequence_is_as_long_as_reckoned():
    config, network, inputs = build()
    lengths = []
    network.llama.layers[0].register_forward_hook(lambda *call: lengths.append(call[-1].shape[1]))
    network(inputs)
    assert lengths == [num_tokens(config, PROMPT)]


@pytest.mark.parametrize("recomputes", [False, True])
def test_memory_is_what_the_backward_pass_keeps(recomputes):
    config, network, inputs = build()
    network.recompute(recomputes)
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage, storage.nbytes())  # held, so that no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(inputs)
    found = sum(size for _, size in kept.values()) / len(inputs)
    reckoned = activation_bytes(config, PROMPT, recomputes, bytes_a_number=4)
    if recomputes:  # the layer at work is reckoned in, and not kept yet
        assert 0.3 * reckoned < found < 1.1 * reckoned
    else:
        assert found == pytest.approx(reckoned, rel=0.25)


def test_all_weights_are_shared_and_adapters_are_not():
    alone = training_bytes(100, 100, bytes_a_weight=2)
    assert dict(alone) == {"weights": 200, "copies": 400, "gradients": 400, "moments": 800}
    shared = training_bytes(100, 100, bytes_a_weight=2, num_ranks=4)
    assert dict(shared) == {"weights": 200, "copies": 100, "gradients": 100, "moments": 200}
    adapters = [training_bytes(100, 10, bytes_a_weight=2, num_ranks=count) for count in (1, 4)]
    assert dict(adapters[0]) == dict(adapters[1]) == {"weights": 200, "copies": 40, "gradients": 40, "moments": 80}
    assert training_bytes(100, 100, bytes_a_weight=4)["copies"] == 0
    assert training_bytes(100, 100, bytes_a_weight=4, num_ranks=2)["copies"] == 200
