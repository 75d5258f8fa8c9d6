"""The network's structure: attention, padding, shift, learning."""

import copy
import dataclasses
import time

import pytest
import torch

from vla_policy.embodiment import Camera, Embodiment, Joint
from vla_policy.inputs import PolicyInputs
from vla_policy.network import VlaNetwork
from vla_policy.presets import PRESETS


def make_inputs(config, count=3, length=5, seed=0, size=8):
    generator = torch.Generator().manual_seed(seed)
    return PolicyInputs(
        images_BCHW3=torch.randint(
            0, 256, (count, config.num_cameras, size, size, 3), generator=generator, dtype=torch.uint8
        ),
        prompt_BL=torch.randint(4, 300, (count, length), generator=generator),
        prompt_mask_BL=torch.ones(count, length, dtype=torch.bool),
        state_BS=torch.rand(count, config.state_dim, generator=generator) * 2 - 1,
    )


def padded(inputs, by):
    filler = torch.full((len(inputs), by), 9)
    return dataclasses.replace(
        inputs,
        prompt_BL=torch.cat((inputs.prompt_BL, filler), dim=1),
        prompt_mask_BL=torch.cat((inputs.prompt_mask_BL, torch.zeros_like(filler, dtype=torch.bool)), dim=1),
    )


@pytest.fixture(params=["learned", "zero"])
def network(config, request):
    torch.manual_seed(0)
    return VlaNetwork(dataclasses.replace(config, placeholders=request.param)).eval()


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    monkeypatch.setattr("vla_policy.precision.compute_dtype", lambda _: torch.float32)


def test_logits_have_one_row_of_256_an_action_token(config, network):
    logits = network(make_inputs(config))
    assert logits.shape == (3, config.chunk_length, config.action_dim, 256)
    assert logits.dtype == torch.float32


def test_the_sequence_is_as_long_as_its_fixed_tokens_and_the_prompt(config, network, monkeypatch):
    seen, hidden_states = [], network.hidden_states
    monkeypatch.setattr(
        network, "hidden_states", lambda tokens, *given: seen.append(tokens) or hidden_states(tokens, *given)
    )
    network(make_inputs(config, length=7))
    assert seen[0].shape[1] == network.num_fixed_tokens + 7


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_is_bidirectional(config, network, attention, monkeypatch):
    monkeypatch.setattr("vla_policy.precision.attention", lambda _: attention)
    tokens = torch.randn(1, 12, config.hidden_size)
    is_token = torch.ones(1, 12, dtype=torch.bool)
    before = network.hidden_states(tokens, slice(0, 12), is_token)
    tokens[0, -1] += 1.0
    after = network.hidden_states(tokens, slice(0, 12), is_token)
    assert (after - before).abs().amax(-1).min() > 1e-6


@torch.no_grad()
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_does_not_change_results(config, network, attention, monkeypatch):
    monkeypatch.setattr("vla_policy.precision.attention", lambda _: attention)
    inputs = make_inputs(config)
    assert torch.allclose(network(inputs), network(padded(inputs, 6)), atol=1e-5)


@torch.no_grad()
def test_a_row_does_not_depend_on_its_batch(config, network):
    short, long = make_inputs(config, length=3), make_inputs(config, length=9, seed=1)
    together = network(PolicyInputs.cat([short, long]))
    assert torch.allclose(together, torch.cat((network(short), network(long))), atol=1e-5)


@torch.no_grad()
def test_every_input_matters_to_every_action_token(config, network):
    inputs = make_inputs(config, count=1)
    before = network(inputs)
    other = make_inputs(config, count=1, seed=5)
    for field in ("images_BCHW3", "prompt_BL", "state_BS"):
        after = network(dataclasses.replace(inputs, **{field: getattr(other, field)}))
        assert (after - before).abs().amax(-1).min() > 1e-6, field


@torch.no_grad()
def test_cameras_are_told_apart(config, network):
    inputs = make_inputs(config)
    swapped = dataclasses.replace(inputs, images_BCHW3=inputs.images_BCHW3.flip(1))
    assert not torch.allclose(network(inputs), network(swapped), atol=1e-4)


@torch.no_grad()
def test_outputs_are_read_with_the_next_token_shift(config, network, monkeypatch):
    """The first action is read at the last prompt token, the others at the placeholder before their own."""
    inputs = padded(make_inputs(config), 2)
    seen = {}
    hidden_states = network.hidden_states
    monkeypatch.setattr(network, "hidden_states", lambda *given: seen.update(given=given) or hidden_states(*given))
    logits = network(inputs).flatten(1, 2)
    prefix = 1 + config.num_cameras * config.num_image_tokens + 1
    tokens, _, is_token = seen["given"]
    everywhere = network.head(network.llama.norm(hidden_states(tokens, slice(0, tokens.shape[1]), is_token)))
    assert torch.allclose(logits[:, 0], everywhere[:, prefix + 4], atol=1e-6)
    start = prefix + 7
    assert torch.allclose(logits[:, 1:], everywhere[:, start : start + config.num_action_tokens - 1], atol=1e-6)
    assert everywhere.shape[1] == start + config.num_action_tokens + 1


@torch.no_grad()
def test_zero_placeholders_are_zero_and_the_stop_token_is_kept(config):
    network = VlaNetwork(dataclasses.replace(config, placeholders="zero"))
    suffix = network._suffix(2)
    assert not suffix[:, :-1].any()
    assert torch.equal(suffix[:, -1], network.llama.embed_tokens.weight[2].expand(2, -1))


@torch.no_grad()
def test_a_learned_placeholder_carries_the_step_and_dimension_read_there(config):
    network = VlaNetwork(config)
    read_at = network._suffix(1)[0, 3]  # action token 4 is step 1, dimension 1
    assert torch.allclose(read_at, network.step_embedding[1, 0] + network.dimension_embedding[0, 1])


def test_proprio_can_be_left_out(config):
    network = VlaNetwork(dataclasses.replace(config, use_proprio=False))
    inputs = make_inputs(config)
    assert torch.equal(network(inputs), network(dataclasses.replace(inputs, state_BS=inputs.state_BS * 0)))


def test_larger_images_give_the_same_answer_as_their_averages(config, network):
    inputs = make_inputs(config)
    doubled = inputs.images_BCHW3.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert torch.allclose(network(inputs), network(dataclasses.replace(inputs, images_BCHW3=doubled)), atol=1e-5)


def test_every_parameter_that_is_read_gets_a_gradient(config):
    network = VlaNetwork(config)
    network(make_inputs(config)).square().mean().backward()
    lacking = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert lacking == []


@pytest.mark.parametrize("by", [0, 3])
def test_computing_again_in_the_backward_pass_gives_the_same_gradient(config, network, by):
    gradients = []
    for wanted in (False, True):
        network.zero_grad()
        network.recompute(wanted)
        network(padded(make_inputs(config), by)).square().mean().backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in network.parameters()]))
    assert torch.equal(*gradients)
    assert gradients[0].norm() > 0


@torch.no_grad()
def test_a_copy_of_a_network_has_weights_of_its_own(config, network):
    inputs = make_inputs(config)
    before, other = network(inputs), copy.deepcopy(network)
    for weight in other.parameters():
        weight.zero_()
    assert torch.equal(network(inputs), before)
    assert not other(inputs).any()


def test_bfloat16_stays_near_float32(config, network, monkeypatch):
    inputs = make_inputs(config)
    exact = network(inputs)
    monkeypatch.setattr("vla_policy.precision.compute_dtype", lambda _: torch.bfloat16)
    fast = network(inputs)
    assert fast.dtype == torch.float32
    assert not torch.equal(fast, exact)
    assert torch.allclose(fast, exact, atol=0.05)


def test_presets_have_the_documented_size():
    joints = tuple(
        Joint(name=f"j{number}", lower=-1, upper=1, max_velocity=1, max_acceleration=1) for number in range(14)
    )
    cameras = tuple(Camera(name=name, height=128, width=128, fovy=1.0) for name in ("head", "left", "right"))
    dual = Embodiment(name="dual", joints=joints, cameras=cameras, control_period=0.04)
    with torch.device("meta"):
        counts = {
            name: sum(value.numel() for value in VlaNetwork(preset(dual)).parameters())
            for name, preset in PRESETS.items()
        }
    assert 1.0e6 < counts["tiny"] < 1.4e6
    assert 25e6 < counts["small"] < 30e6


def test_a_small_network_learns_eight_samples_by_heart(config):
    torch.manual_seed(0)
    network = VlaNetwork(config)
    inputs = make_inputs(config, count=8)
    labels = torch.randint(0, 256, (8, config.chunk_length, config.action_dim))
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    deadline = time.monotonic() + 60.0
    accuracy = 0.0
    while accuracy < 1.0 and time.monotonic() < deadline:
        logits = network(inputs)
        accuracy = (logits.argmax(-1) == labels).float().mean().item()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten()).backward()
        optimizer.step()
    assert accuracy == 1.0
