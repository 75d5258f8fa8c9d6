"""The network against one written straight from the specification, in functions alone."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from vla_policy.errors import VlaError
from vla_policy.policy import VlaPolicy

CHUNK, ACTIONS, HEADS = 8, 7, 2
FIRST_ACTION_ID = 31744


def vit(tensors, prefix, planes, num_blocks, num_prefix):
    """Output of the block before the last, prefix tokens stripped."""

    def get(name):
        return tensors[f"vision_backbone.{prefix}.{name}"]

    tokens = functional.conv2d(planes, get("patch_embed.proj.weight"), get("patch_embed.proj.bias"), stride=14)
    tokens = tokens.flatten(2).transpose(1, 2) + get("pos_embed")
    count, _, width = tokens.shape
    if num_prefix:
        tokens = torch.cat((get("cls_token").expand(count, -1, -1), get("reg_token").expand(count, -1, -1), tokens), 1)
    for block in range(num_blocks - 1):

        def layer(name, values, block=block):
            weight, bias = get(f"blocks.{block}.{name}.weight"), get(f"blocks.{block}.{name}.bias")
            if name.startswith("norm"):
                return functional.layer_norm(values, (width,), weight, bias, eps=1e-6)
            return values @ weight.T + bias

        def scale(name, values, block=block):
            return values * tensors.get(f"vision_backbone.{prefix}.blocks.{block}.{name}.scale_factor", 1.0)

        qkv = layer("attn.qkv", layer("norm1", tokens)).view(count, -1, 3, 16, width // 16).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(qkv[0] @ qkv[1].transpose(-1, -2) / math.sqrt(width // 16), dim=-1)
        attended = (weights @ qkv[2]).transpose(1, 2).reshape(count, -1, width)
        tokens = tokens + scale("ls1", layer("attn.proj", attended))
        inner = layer("mlp.fc1", layer("norm2", tokens))
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        tokens = tokens + scale("ls2", layer("mlp.fc2", inner))
    return tokens[:, num_prefix:]


def projected(tensors, name, values, num_layers):
    for number in range(1, num_layers + 1):
        values = values @ tensors[f"{name}.fc{number}.weight"].T + tensors[f"{name}.fc{number}.bias"]
        if number < num_layers:
            values = values * 0.5 * (1 + torch.erf(values / math.sqrt(2)))
    return values


def rms_norm(values, weight):
    return values * torch.rsqrt(values.square().mean(-1, keepdim=True) + 1e-6) * weight


def rotate(values):
    """Rotary positions of (heads, T, size)."""
    size = values.shape[-1]
    angles = torch.arange(values.shape[1])[:, None] * 10000.0 ** (-torch.arange(0, size, 2) / size)
    cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
    halves = torch.cat((-values[..., size // 2 :], values[..., : size // 2]), dim=-1)
    return values * cos + halves * sin


def llama(tensors, tokens):
    """Hidden states of one sequence (T, D), every token seeing every other."""
    length, hidden = tokens.shape
    for layer in range(2):

        def get(name, layer=layer):
            return tensors[f"language_model.model.layers.{layer}.{name}.weight"]

        normed = rms_norm(tokens, get("input_layernorm"))
        query, key, value = (
            (normed @ get(f"self_attn.{name}_proj").T).view(length, HEADS, -1).transpose(0, 1) for name in "qkv"
        )
        scores = rotate(query) @ rotate(key).transpose(-1, -2) / math.sqrt(hidden // HEADS)
        attended = (torch.softmax(scores, -1) @ value).transpose(0, 1).reshape(length, hidden)
        tokens = tokens + attended @ get("self_attn.o_proj").T
        normed = rms_norm(tokens, get("post_attention_layernorm"))
        gate = normed @ get("mlp.gate_proj").T
        tokens = tokens + (gate * torch.sigmoid(gate) * (normed @ get("mlp.up_proj").T)) @ get("mlp.down_proj").T
    return rms_norm(tokens, tensors["language_model.model.norm.weight"])


def action_states(tensors, images, words, state):
    """Hidden states where the actions are read, of one observation."""
    planes = torch.stack(images).permute(0, 3, 1, 2).float() / 255
    means = torch.tensor([0.484375, 0.455078125, 0.40625])[:, None, None]
    stds = torch.tensor([0.228515625, 0.2236328125, 0.224609375])[:, None, None]
    dinov2 = vit(tensors, "featurizer", (planes - means) / stds, 3, 5)
    siglip = vit(tensors, "fused_featurizer", (planes - 0.5) / 0.5, 3, 0)
    patches = projected(tensors, "projector", torch.cat((dinov2, siglip), -1), 3).flatten(0, 1)
    if state is not None:
        patches = torch.cat((patches, projected(tensors, "proprio_projector", state, 2)[None]))
    embed = tensors["language_model.model.embed_tokens.weight"]
    text = embed[torch.tensor([1, *words])]
    zeros = torch.zeros(CHUNK * ACTIONS, embed.shape[1])
    hidden = llama(tensors, torch.cat((text[:1], patches, text[1:], zeros, embed[2][None])))
    start = len(patches) + len(text) - 1
    return hidden[start : start + CHUNK * ACTIONS]


def normalised(state, proprio):
    low, high = np.array(proprio["q01"]), np.array(proprio["q99"])
    return torch.tensor(np.clip(2 * (state - low) / (high - low + 1e-8) - 1, -1, 1), dtype=torch.float32)


def un_normalised(values, action):
    low, high = np.array(action["q01"]), np.array(action["q99"])
    return np.where(action["mask"], 0.5 * (values + 1) * (high - low + 1e-8) + low, values)


def words_of(policy, instruction):
    text = f"In: What action should the robot take to {instruction.lower()}?\nOut:"
    return [*policy.tokenizer.encode(text, add_special_tokens=False).ids, 29871]


def reference_states(policy, tensors, seen, inputs, entry):
    with_state = policy.config.use_proprio
    return torch.stack(
        [
            action_states(
                tensors,
                list(inputs.images_BCHW3[row]),
                words_of(policy, one.instruction),
                normalised(one.state, entry["proprio"]) if with_state else None,
            )
            for row, one in enumerate(seen)
        ]
    )


@torch.no_grad()
@pytest.mark.parametrize("instruction", [None, "open the drawer"], ids=["padded", "of one length"])
@pytest.mark.parametrize("num_cameras", [1, 2])
@pytest.mark.parametrize("kind", [None, "safetensors", "pt"])
def test_logits_tokens_actions_and_log_probs_agree(
    make_folder, tensors, proprio, datasets, observe, instruction, num_cameras, kind, libero
):
    cameras = ("agentview", "wrist")[:num_cameras]
    policy = VlaPolicy.load(make_folder(kind=kind, cameras=cameras), robot=libero(num_cameras))
    assert policy.config.camera_names == cameras
    seen, entry = observe(3, instruction), datasets["libero_spatial_no_noops"]
    inputs = policy.inputs(seen)
    assert inputs.is_padded == (instruction is None)
    everything = tensors | {f"proprio_projector.{name}": value for name, value in proprio.items()}
    states = reference_states(policy, everything, seen, inputs, entry)
    logits = (states @ tensors["language_model.lm_head.weight"].T)[..., FIRST_ACTION_ID : FIRST_ACTION_ID + 256]

    ours = policy.network(inputs).flatten(1, 2)
    assert (ours - logits).abs().max() <= 1e-4
    indices = logits.argmax(-1)
    assert torch.equal(ours.argmax(-1), indices)
    log_probs = torch.log_softmax(logits / 1.6, -1).gather(-1, indices[..., None])[..., 0]
    ours = policy.log_probs(inputs, indices.view(3, CHUNK, ACTIONS), 1.6).flatten(1, 2)
    assert (ours - log_probs).abs().max() <= 1e-4

    centre = np.clip(32000 - (indices.numpy() + FIRST_ACTION_ID) - 1, 0, 254)
    values = (-1 + (centre + 0.5) * 2 / 255).reshape(3, CHUNK, ACTIONS)
    expected = un_normalised(values, entry["action"])
    answers = np.stack([chunk.actions for chunk in policy.infer(seen)])
    assert answers == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
def test_an_l1_head_answers_as_specified(make_folder, tensors, proprio, l1, datasets, observe, libero):
    policy = VlaPolicy.load(make_folder(kind="pt", with_l1=True), robot=libero(2))
    seen, entry = observe(3), datasets["libero_spatial_no_noops"]
    everything = tensors | {f"proprio_projector.{name}": value for name, value in proprio.items()}
    states = reference_states(policy, everything, seen, policy.inputs(seen), entry)

    def layer(name, values):
        weight, bias = l1[f"model.{name}.weight"], l1[f"model.{name}.bias"]
        if weight.ndim == 1:
            return functional.layer_norm(values, weight.shape, weight, bias)
        return values @ weight.T + bias

    values = functional.relu(layer("fc1", layer("layer_norm1", states.view(3, CHUNK, -1))))
    for block in range(2):
        name = f"mlp_resnet_blocks.{block}.ffn"
        values = values + functional.relu(layer(f"{name}.1", layer(f"{name}.0", values)))
    expected = un_normalised(layer("fc2", layer("layer_norm2", values)).numpy(), entry["action"])
    answers = np.stack([chunk.actions for chunk in policy.infer(seen)])
    assert answers == pytest.approx(expected, abs=1e-4)


def test_rl_from_an_l1_checkpoint_is_refused_with_the_reason(make_folder, observe, libero):
    folder = make_folder(kind="pt", with_l1=True)
    policy = VlaPolicy.load(folder, robot=libero(2))
    inputs = policy.inputs(observe(1))
    for ask in (
        lambda: policy.sample(inputs, np.zeros((1, 8)), 1.6),
        lambda: policy.log_probs(inputs, torch.zeros(1, CHUNK, ACTIONS, dtype=torch.int64), 1.6),
        lambda: policy.require_tokens(),
    ):
        with pytest.raises(VlaError, match=r"L1 regression.*never learned action tokens.*fine-tune a copy .*on tokens"):
            ask()
    with pytest.raises(VlaError, match="'sample' has no bins to choose among"):
        VlaPolicy.load(folder, robot=libero(2), decoding="sample")


@torch.no_grad()
def test_only_what_is_read_is_computed(make_folder, observe, libero):
    policy = VlaPolicy.load(make_folder(), robot=libero(1))
    config = policy.config
    assert policy.network.head.weight.shape == (256, config.hidden_size)
    assert len(policy.network.vision.dinov2.layers) == config.dinov2.num_blocks - 1
    lengths, last = [], policy.network.llama.layers[-1]
    for module in (last.self_attn.v_proj, last.mlp.up_proj, policy.network.llama.norm):
        module.register_forward_hook(lambda *call: lengths.append(call[-1].shape[1]))
    states = policy.network.action_states(*tensors_of(policy.inputs(observe(2, "open the drawer"))))
    assert states.shape == (2, CHUNK * ACTIONS, config.hidden_size)
    words = len(words_of(policy, "open the drawer"))
    assert lengths == [1 + config.num_image_tokens + words + CHUNK * ACTIONS + 1, CHUNK * ACTIONS, CHUNK * ACTIONS]


def tensors_of(inputs):
    return inputs.images_BCHW3, inputs.prompt_BL, None, inputs.state_BS


def test_every_weight_learns(make_folder, observe, libero):
    policy = VlaPolicy.load(make_folder(kind="safetensors"), robot=libero(2))
    inputs = policy.inputs(observe(2))
    policy.log_probs(inputs, torch.zeros(2, CHUNK, ACTIONS, dtype=torch.int64), 1.0).sum().backward()
    idle = [name for name, weight in policy.network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bfloat16_says_nearly_the_same(make_folder, observe, robot, monkeypatch, dtype):
    exact = VlaPolicy.load(make_folder(), robot=robot)
    inputs = exact.inputs(observe(3))
    expected = exact.network(inputs)
    monkeypatch.setattr("vla_policy.precision.compute_dtype", lambda _: torch.bfloat16)
    coarse = VlaPolicy.load(make_folder("again"), robot=robot, dtype=dtype)
    assert coarse.network.head.weight.dtype == dtype
    logits = coarse.network(inputs)
    assert logits.dtype == torch.float32
    assert (logits - expected).abs().mean() < 0.05 * expected.abs().mean()


@torch.no_grad()
def test_shapes_decide_everything(make_folder, observe, robot):
    """Nothing in the forward pass looks at values: it is one graph, as CUDA graphs and compilers want it."""
    policy = VlaPolicy.load(make_folder(), robot=robot)
    arguments = tensors_of(policy.inputs(observe(2, "open the drawer")))
    one_graph = torch.compile(policy.network.compute, backend="eager", fullgraph=True, dynamic=False)
    assert torch.allclose(one_graph(*arguments), policy.network.compute(*arguments), atol=1e-5)
