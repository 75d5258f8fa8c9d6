"""Adapters: they change nothing at first, all that takes part later, are stored alone, and fold into their base."""

import json
import shutil

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vla_policy.checkpoint import is_checkpoint, weights_sha256
from vla_policy.errors import VlaError
from vla_policy.openvla import adapters
from vla_policy.openvla.merge import MergeConfig, main
from vla_policy.origin import AdapterSize
from vla_policy.policy import VlaPolicy

SIZE = AdapterSize(rank=4, alpha=2.0)


@pytest.fixture
def base(make_folder, robot):
    """A published folder that says whose it is."""
    folder = make_folder()
    (folder / "embodiment.json").write_text(robot.to_json())
    return folder


@pytest.fixture
def adapted(base):
    policy = VlaPolicy.load(base)
    policy.adapt(SIZE, seed=1)
    return policy


def logits_of(policy, observe):
    return policy.network(policy.inputs(observe(3)))


def learn(policy, observe, scale=1.0):
    """Change every factor as training might."""
    generator = torch.Generator().manual_seed(2)
    for name, weight in policy.network.named_parameters():
        if weight.requires_grad:
            spread = scale * (1.0 if "lora" in name else 0.1)
            weight.data += spread * torch.randn(weight.shape, generator=generator) * weight.shape[-1] ** -0.5


def test_fresh_adapters_change_nothing(base, adapted, observe):
    before = VlaPolicy.load(base)
    assert torch.equal(logits_of(before, observe), logits_of(adapted, observe))


def test_every_linear_layer_that_takes_part_has_an_adapter_that_learns(adapted, observe):
    network = adapted.network
    linear = {name for name, module in network.named_modules() if isinstance(module, nn.Linear) and "lora" not in name}
    of = {name for name, _ in adapters.layers(network)}
    assert {name.removesuffix(".base_layer") for name in linear} - of == {"head"}
    kinds = {name.split(".")[-1] for name in of if name.startswith("llama")}
    assert kinds == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(of) == 2 * 7 + 2 * 6 + 2 * 6 + 3  # layers, live blocks of both towers, projector
    learn(adapted, observe)
    logits_of(adapted, observe).square().sum().backward()
    for name, weight in network.named_parameters():
        assert ("lora" in name) == weight.requires_grad == (weight.grad is not None), name
        assert weight.grad is None or weight.grad.any(), name


def test_a_layer_computes_what_pefts_own_would(adapted, observe):
    learn(adapted, observe)
    _, layer = next(adapters.layers(adapted.network))
    inputs = torch.randn(2, 5, layer.in_features)
    assert torch.allclose(layer(inputs), peft.tuners.lora.layer.Linear.forward(layer, inputs), atol=1e-6)


def test_parts_can_be_trained_whole(base, observe, tmp_path):
    policy = VlaPolicy.load(base)
    policy.adapt(AdapterSize(rank=2, whole=("projector", "head")))
    trained = {name for name, weight in policy.network.named_parameters() if weight.requires_grad}
    whole = {name for name in trained if "lora" not in name}
    assert whole == {"head.weight"} | {f"projector.fc{n}.{kind}" for n in (1, 2, 3) for kind in ("weight", "bias")}
    learn(policy, observe)
    policy.save(tmp_path / "adapters")
    assert torch.equal(logits_of(VlaPolicy.load(tmp_path / "adapters"), observe), logits_of(policy, observe))


def test_a_checkpoint_is_small_and_comes_back_bit_for_bit(adapted, base, observe, tmp_path):
    learn(adapted, observe)
    adapted.save(tmp_path / "adapters", extra={"training": {"step": 3}})
    assert is_checkpoint(tmp_path / "adapters")
    sizes = [
        sum(file.stat().st_size for file in place.glob("*.safetensors")) for place in (tmp_path / "adapters", base)
    ]
    assert sizes[0] < sizes[1] / 50
    again = VlaPolicy.load(tmp_path / "adapters")
    assert again.adapted == adapted.adapted
    assert again.adapted.sha256 == weights_sha256(base)
    assert again.extra == {"training": {"step": 3}}
    assert torch.equal(logits_of(again, observe), logits_of(adapted, observe))
    again.save(tmp_path / "again")
    for name in ("adapter_model.safetensors", "adapter_config.json", "base.json", "reading.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "adapters" / name).read_bytes()


def test_adapters_are_stored_under_published_names(adapted, tmp_path):
    adapted.save(tmp_path / "adapters")
    names = set(load_file(tmp_path / "adapters" / "adapter_model.safetensors"))
    assert {
        "language_model.model.layers.1.mlp.gate_proj.lora_A.weight",
        "vision_backbone.featurizer.blocks.0.attn.q.lora_B.weight",
        "vision_backbone.fused_featurizer.blocks.1.attn.proj.lora_A.weight",
        "vision_backbone.fused_featurizer.blocks.1.mlp.fc1.lora_A.weight",
        "projector.fc3.lora_B.weight",
    } <= names
    described = json.loads((tmp_path / "adapters" / "adapter_config.json").read_text())
    assert (described["peft_type"], described["r"], described["lora_alpha"]) == ("LORA", 4, 2.0)
    assert len(described["target_modules"]) == len(names) / 2


def test_the_same_seed_draws_the_same_adapters_and_leaves_torchs_generator_alone(base):
    policies = []
    state = torch.get_rng_state()
    for seed in (1, 1, 2):
        policy = VlaPolicy.load(base)
        policy.adapt(SIZE, seed)
        policies.append(next(adapters.layers(policy.network))[1].lora_A["default"].weight)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(policies[0], policies[1])
    assert not torch.equal(policies[0], policies[2])


def test_a_merged_folder_answers_alike_and_needs_no_base(adapted, base, observe, tmp_path, capsys):
    learn(adapted, observe)
    adapted.save(tmp_path / "adapters")
    shutil.move(base, tmp_path / "elsewhere")
    config = MergeConfig(
        folder=tmp_path / "adapters", out=tmp_path / "merged", base=tmp_path / "elsewhere", dtype="float32"
    )
    assert main(config) == 0
    shutil.rmtree(tmp_path / "elsewhere")
    merged = VlaPolicy.load(tmp_path / "merged")
    assert merged.adapted is None
    assert torch.allclose(logits_of(merged, observe), logits_of(adapted, observe), atol=1e-4)
    assert "written as float32; rounding changed what was learned by 0.0%" in capsys.readouterr().out


def test_all_but_what_was_learned_is_written_as_it_was_read(adapted, base, tmp_path):
    adapted.save(tmp_path / "adapters")  # nothing was learned
    assert main(MergeConfig(folder=tmp_path / "adapters", out=tmp_path / "merged", dtype="float32")) == 0
    merged, original = (
        {name: tensor for file in place.glob("*.safetensors") for name, tensor in load_file(file).items()}
        for place in (tmp_path / "merged", base)
    )
    assert merged.keys() == original.keys()
    assert all(torch.equal(merged[name], original[name]) for name in merged)


def test_what_bfloat16_cannot_hold_is_said(adapted, observe, tmp_path, capsys):
    learn(adapted, observe, scale=1e-3)
    adapted.save(tmp_path / "adapters")
    assert main(MergeConfig(folder=tmp_path / "adapters", out=tmp_path / "merged")) == 0
    assert "give --dtype float32" in capsys.readouterr().err


def test_weights_of_a_checkpoint_are_taken_over_in_place(adapted, base, observe, tmp_path):
    learn(adapted, observe)
    expected = logits_of(adapted, observe)
    adapted.save(tmp_path / "adapters")
    other = VlaPolicy.load(base)
    other.adapt(SIZE, seed=7)
    places = [weight.data_ptr() for weight in other.network.parameters()]
    other.restore(tmp_path / "adapters")
    assert places == [weight.data_ptr() for weight in other.network.parameters()]
    assert torch.equal(logits_of(other, observe), expected)


def change_base(folder):
    path = next(folder.glob("model-00002*"))
    weights = load_file(path)
    weights["language_model.model.norm.weight"] += 1
    save_file(weights, path)


def cut(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def without_one(folder):
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    del weights["projector.fc1.lora_A.weight"]
    save_file(weights, path)


def of_another_rank(folder):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 8}))


@pytest.mark.parametrize(
    ("where", "damage", "message"),
    [
        ("base", shutil.rmtree, r"changes a base that is not at .*put it there, or write its place into base\.json"),
        ("base", change_base, r"changes a base of sha256 .*, at .* lies .*; find the original"),
        ("adapters", cut, r"adapter_model\.safetensors is damaged or cut short"),
        ("adapters", without_one, r"lacks projector\.fc1\.lora_A\.weight .*trained on another base"),
        ("adapters", of_another_rank, r"has shape \(4, .*, the base asks for \(8"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_the_remedy(adapted, base, tmp_path, where, damage, message, capsys):
    adapted.save(tmp_path / "adapters")
    damage({"base": base, "adapters": tmp_path / "adapters"}[where])
    with pytest.raises(VlaError, match=message):
        VlaPolicy.load(tmp_path / "adapters")
    assert main(MergeConfig(folder=tmp_path / "adapters", out=tmp_path / "merged")) == 2
    assert not (tmp_path / "merged").exists()


def test_merging_overwrites_nothing_and_needs_adapters(adapted, base, tmp_path, capsys):
    adapted.save(tmp_path / "adapters")
    (tmp_path / "merged").mkdir()
    assert main(MergeConfig(folder=tmp_path / "adapters", out=tmp_path / "merged")) == 2
    assert "already exists" in capsys.readouterr().err
    assert main(MergeConfig(folder=base, out=tmp_path / "other")) == 2
    assert "holds no adapters" in capsys.readouterr().err


@pytest.mark.parametrize("size", [{"rank": 0}, {"alpha": 0.0}, {"whole": ("llama",)}])
def test_sizes_that_make_no_sense_are_refused(size):
    with pytest.raises(VlaError, match=r"change nothing|trained whole can be"):
        AdapterSize(**size)


def test_adapters_are_attached_once_and_saved_only_beside_a_base_in_a_folder(adapted, base, tmp_path):
    with pytest.raises(VlaError, match="has adapters already; merge them first"):
        adapted.adapt(SIZE)
    policy = VlaPolicy.load(base)
    with pytest.raises(VlaError, match="no proprio_projector that could be trained whole"):
        policy.adapt(AdapterSize(whole=("proprio_projector",)))
    policy.folder = None
    policy.adapt(SIZE)
    with pytest.raises(VlaError, match="save the policy before it is adapted"):
        policy.save(tmp_path / "adapters")
    assert not (tmp_path / "adapters").exists()
