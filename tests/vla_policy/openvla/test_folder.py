"""Published folders: read, refused, written back."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vla_policy.checkpoint import Checkpoint, weights_sha256
from vla_policy.embodiment import Joint
from vla_policy.errors import VlaError
from vla_policy.normalization import DatasetStatistics, Statistics
from vla_policy.openvla import folder as published
from vla_policy.openvla import manifest, memory, shards, weights
from vla_policy.openvla.config import MEANS, STDS
from vla_policy.openvla.network import OpenVlaNetwork
from vla_policy.openvla.reading import usual
from vla_policy.policy import VlaPolicy
from vla_policy.policy_source import PolicySource, load_policy
from vla_policy.presets import openvla_7b


def stored(folder):
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    tensors = {}
    for file in sorted(set(index["weight_map"].values())):
        part = load_file(folder / file)
        assert {name for name, place in index["weight_map"].items() if place == file} == set(part)
        tensors |= part
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in tensors.values())
    return tensors


def stored_names(policy):
    """All that the folder held which a policy was read from."""
    shapes = {name: tuple(value.shape) for name, value in policy.network.state_dict().items()}
    return weights.published_shapes(shapes, policy.config).keys() | policy.origin.carried.keys()


@pytest.mark.parametrize("kind", [None, "safetensors", "pt"])
def test_what_is_written_is_what_was_read(make_folder, tmp_path, kind, libero):
    folder = make_folder(kind=kind)
    policy = VlaPolicy.load(folder, robot=libero(2))
    policy.save(tmp_path / "ours")
    before = load_file(folder / "model-00001-of-00002.safetensors") | load_file(
        folder / "model-00002-of-00002.safetensors"
    )
    after = stored(tmp_path / "ours")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for name in ("tokenizer.json", "tokenizer.model", "preprocessor_config.json", "generation_config.json"):
        assert (tmp_path / "ours" / name).read_bytes() == (folder / name).read_bytes()
    old, new = (json.loads((place / "config.json").read_text()) for place in (folder, tmp_path / "ours"))
    assert {key: new[key] for key in old} == old | {"torch_dtype": "float32"}
    assert new.get("use_proprio", False) == (kind == "safetensors")
    statistics = [(place / "dataset_statistics.json").read_text() for place in (folder, tmp_path / "ours")]
    assert json.loads(statistics[0]) == json.loads(statistics[1])
    if kind == "pt":
        file = "proprio_projector--150000_checkpoint.pt"
        one, two = (torch.load(place / file, weights_only=True) for place in (folder, tmp_path / "ours"))
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@torch.no_grad()
def test_what_was_learned_is_written_into_the_published_names(make_folder, tmp_path, observe, libero):
    policy = VlaPolicy.load(make_folder(kind="safetensors"), robot=libero(1))
    for weight in policy.network.parameters():
        weight.mul_(1.01)
    policy.save(tmp_path / "ours", extra={"training": {"step": 3}})
    again = VlaPolicy.load(tmp_path / "ours")  # says itself which robot it moves and how
    assert again.extra == {"training": {"step": 3}}
    inputs = policy.inputs(observe(2))
    assert torch.equal(policy.network(inputs), again.network(inputs))
    assert again.config == policy.config and again.embodiment == libero(1)


def test_bfloat16_halves_the_folder(make_folder, tmp_path, libero):
    policy = VlaPolicy.load(make_folder(), robot=libero(1))
    policy.save(tmp_path / "half", dtype=torch.bfloat16)
    assert {value.dtype for value in stored(tmp_path / "half").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "half" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    assert VlaPolicy.load(tmp_path / "half", dtype=torch.bfloat16).network.head.weight.dtype == torch.bfloat16


def test_shards_stay_below_their_size(make_folder, tmp_path, libero):
    network, parts = published.load(make_folder(), robot=libero(1))
    (tmp_path / "many").mkdir()
    published.write(tmp_path / "many", parts, None, max_bytes=3_000_000)
    files = sorted((tmp_path / "many").glob("model-*.safetensors"))
    assert len(files) == 3 and files[0].name == "model-00001-of-00003.safetensors"
    assert isinstance(parts, Checkpoint)
    assert published.load(tmp_path / "many")[0].state_dict().keys() == network.state_dict().keys()


def test_a_single_file_without_index_is_read(make_folder, tensors, libero):
    folder = make_folder()
    from safetensors.torch import save_file

    for path in [*folder.glob("model-*"), folder / "model.safetensors.index.json"]:
        path.unlink()
    save_file(tensors, folder / "model.safetensors")
    assert VlaPolicy.load(folder, robot=libero(1)).config.num_layers == 2
    assert len(weights_sha256(folder)) == 64


@torch.no_grad()
def test_dead_weights_may_be_missing(make_folder, observe, libero):
    def drop(made):
        for name in [name for name in made if name.startswith("vision") and (".norm." in name or "attn_pool" in name)]:
            del made[name]

    whole = VlaPolicy.load(make_folder(), robot=libero(1))
    policy = VlaPolicy.load(make_folder("without", change=drop), robot=libero(1))
    inputs = policy.inputs(observe(1))
    assert torch.equal(policy.network(inputs), whole.network(inputs))


@pytest.mark.parametrize("missing", [0, 1])
def test_a_published_tower_without_its_dead_block_is_as_deep_as_ever(robot, tmp_path, missing):
    names = {"featurizer": (1024, 24, 4096), "fused_featurizer": (1152, 27, 4304)}
    shapes = {}
    for tower, (width, blocks, mlp) in names.items():
        shapes[f"vision_backbone.{tower}.patch_embed.proj.weight"] = (width, 3, 14, 14)
        for block in range(blocks - missing):
            shapes[f"vision_backbone.{tower}.blocks.{block}.mlp.fc1.weight"] = (mlp, width)
    shapes |= {
        "vision_backbone.featurizer.cls_token": (1, 1, 1024),
        "vision_backbone.featurizer.reg_token": (1, 4, 1024),
    }
    (tmp_path / "config.json").write_text('{"text_config": {"vocab_size": 32064}}')
    numbers = Statistics.of(np.zeros((2, 7)))
    known = DatasetStatistics(action=numbers, proprio=numbers, num_transitions=2, num_trajectories=1)
    config = manifest.network_config(tmp_path, shapes, usual(robot, "tokens"), known, "tokens")
    assert (config.dinov2, config.siglip) == (openvla_7b(robot).dinov2, openvla_7b(robot).siglip)
    assert (config.hidden_size, config.num_layers, config.num_kv_heads) == (4096, 32, 32)


@pytest.mark.parametrize("kind", [None, "pt"])
def test_the_node_loads_it_as_any_other_checkpoint(make_folder, tmp_path, observe, libero, kind):
    (tmp_path / "robot.json").write_text(libero(1).to_json())
    loaded = load_policy(
        PolicySource(checkpoint=str(make_folder(kind=kind)), embodiment=tmp_path / "robot.json", threads=0)
    )
    loaded.warm_up()
    assert loaded.policy.infer(observe(1))[0].actions.shape == (8, 7)


def test_a_checkpoint_of_tokens_reads_the_first_of_a_robots_cameras(make_folder, observe, libero):
    policy = VlaPolicy.load(make_folder(), robot=libero(2))
    assert policy.config.camera_names == ("agentview",)
    seen = observe(2)
    images = np.stack([[one.images[name] for name in ("agentview", "wrist")] for one in seen])
    states = np.stack([one.state for one in seen])
    given = policy.inputs_from_arrays(images, states, [one.instruction for one in seen])
    assert torch.equal(given.images_BCHW3, policy.inputs(seen).images_BCHW3)


@pytest.mark.parametrize("wanted", ["libero_spatial", "libero_spatial_no_noops", None])
def test_names_of_data_sets_resolve(datasets, wanted):
    from vla_policy.openvla import statistics

    assert statistics.resolve(datasets, wanted, "x") == "libero_spatial_no_noops"
    assert statistics.resolve({"lift_pot_1k": {}}, "robotwin2_lift_pot_1k", "x") == "lift_pot_1k"
    assert statistics.resolve({"lift_pot_1k": {}}, "lift_pot", "x") == "lift_pot_1k"


def test_statistics_may_stand_in_the_config(make_folder, datasets, libero):
    folder = make_folder(norm_stats=datasets)
    (folder / "dataset_statistics.json").unlink()
    assert VlaPolicy.load(folder, robot=libero(1)).statistics.num_trajectories == 432


def truncate(folder):
    path = folder / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:100_000])


def without_statistics(folder):
    (folder / "dataset_statistics.json").unlink()


def without_a_shard(folder):
    (folder / "model-00001-of-00002.safetensors").unlink()


def with_code(folder):
    (folder / "modeling_prismatic.py").write_text("raise SystemExit")


def asking_for_code(folder):
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"]["AutoModelForVision2Seq"] = "someone/else--modeling_other.Model"
    (folder / "config.json").write_text(json.dumps(config))


def with_a_pickle(folder):
    (folder / "training_args.bin").write_bytes(pickle.dumps({"lr": 1}))


def with_an_evil_head(folder):
    class Evil:
        def __reduce__(self):
            return print, ("evil",)

    torch.save({"module.fc1.weight": Evil()}, folder / "proprio_projector--1_checkpoint.pt")


def with_two_heads(folder):
    for step in (1, 2):
        torch.save({"module.fc1.weight": torch.zeros(1)}, folder / f"proprio_projector--{step}_checkpoint.pt")


def with_diffusion(folder):
    torch.save({}, folder / "noisy_action_projector--1_checkpoint.pt")


def with_other_statistics(folder):
    (folder / "dataset_statistics.json").write_text(json.dumps({"bridge_orig": 1, "fractal": 2}))


def without_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def with_another_index(folder):
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["projector.fc9.weight"] = "model-00001-of-00002.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate, r"model-00002-of-00002\.safetensors is missing, damaged or cut short .*; download it again"),
        (without_a_shard, r"model-00001-of-00002\.safetensors is missing, damaged or cut short"),
        (without_statistics, r"no statistics: .*copy dataset_statistics\.json from"),
        (with_other_statistics, r"several data sets; choose an un-normalise key: bridge_orig, fractal"),
        (with_code, r"carries code \(modeling_prismatic\.py\).*remove it"),
        (asking_for_code, r"asks for remote code \(auto_map\); remove the key"),
        (with_a_pickle, r"training_args\.bin is a pickle.*remove it"),
        (with_an_evil_head, r"proprio_projector--1_checkpoint\.pt is damaged, or holds more than weights"),
        (with_two_heads, r"two of a kind, .*; keep the one"),
        (with_diffusion, r"its action head is a diffusion model.*take a token or L1 checkpoint"),
        (without_tokenizer, r"lacks tokenizer\.json; copy it from openvla/openvla-7b"),
        (with_another_index, r"holds other weights than .* \(such as projector\.fc9\.weight\)"),
    ],
)
def test_a_bad_folder_is_refused_with_the_remedy(make_folder, tmp_path, spoil, message, capsys, libero):
    folder = make_folder()
    spoil(folder)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(VlaError, match=message):
        VlaPolicy.load(folder, robot=libero(1))
    assert sorted(tmp_path.rglob("*")) == before
    assert "evil" not in capsys.readouterr().out


def shorter(made):
    made["projector.fc2.weight"] = made["projector.fc2.weight"][:, :-1].contiguous()


def fewer(made):
    del made["language_model.model.layers.1.mlp.up_proj.weight"]


def more(made):
    made["language_model.model.layers.2.mlp.up_proj.weight"] = torch.zeros(3)


def quantised(made):
    made["language_model.lm_head.weight"] = made["language_model.lm_head.weight"].to(torch.int8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shorter, r"projector\.fc2\.weight has shape \(32, 319\), the rest of the folder asks for \(32, 320\)"),
        (fewer, r"lacks weights language_model\.model\.layers\.1\.mlp\.up_proj\.weight \(1 in all\); download"),
        (more, r"has unknown weights language_model\.model\.layers\.2\.mlp\.up_proj\.weight"),
        (quantised, r"lm_head\.weight is stored as I8; only unquantised weights load"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(make_folder, change, message, libero):
    with pytest.raises(VlaError, match=message):
        VlaPolicy.load(make_folder(change=change), robot=libero(1))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"arch_specifier": "linear"}, r"arch_specifier is 'linear'; only 'no-align\+fused-gelu-mlp' is known"),
        ({"text_config": {"model_type": "llama", "vocab_size": 32064, "rms_norm_eps": 1e-5}}, "rms_norm_eps is 1e-05"),
        ({"image_sizes": [28, 56]}, r"image_sizes \[28, 56\] differ"),
    ],
)
def test_a_config_of_another_network_is_refused(make_folder, keys, message, libero):
    with pytest.raises(VlaError, match=message):
        VlaPolicy.load(make_folder(**keys), robot=libero(1))


def test_a_folder_that_does_not_say_whom_it_moves_asks(make_folder):
    with pytest.raises(VlaError, match=r"does not say which robot it moves; .*vla_policy\.openvla\.adopt"):
        VlaPolicy.load(make_folder())


def test_too_little_memory_is_said_before_anything_is_read(make_folder, monkeypatch, libero):
    monkeypatch.setattr(memory, "available", lambda device: 10**6)
    monkeypatch.setattr(shards.Shards, "read", lambda *_: pytest.fail("read something"))
    with pytest.raises(VlaError, match=r"needs 0\.0 GB of memory as float32 on device 'cpu', 0\.0 GB.*device 'cuda'"):
        VlaPolicy.load(make_folder(), robot=libero(1))


def test_free_memory_is_known():
    assert 10**8 < memory.available(torch.device("cpu")) < 2**50


def test_every_published_name_is_ours_once(make_folder, tensors, libero):
    found = published.survey(make_folder(), libero(1))
    shapes = {name: tuple(value.shape) for name, value in found.network.state_dict().items()}
    expected = weights.published_shapes(shapes, found.config)
    alive = {name for name in tensors if not weights.is_dead(name, found.config)}
    assert expected == {name: tuple(tensors[name].shape) for name in alive}
    with safe_open(make_folder("other") / "model-00002-of-00002.safetensors", framework="pt") as file:
        assert weights.HEAD in set(file.keys())


def test_a_network_of_our_own_becomes_a_published_folder(robot, tmp_path, make_folder):
    given = VlaPolicy.load(make_folder(), robot=robot)
    config = dataclasses.replace(
        given.config, action_frame="relative", decoding="expectation", statistics_key="ours", use_proprio=False
    )
    policy = VlaPolicy.create(config, robot, given.statistics, given.tokenizer, seed=1)
    policy.save(tmp_path / "ours")
    assert stored(tmp_path / "ours").keys() >= stored_names(given)
    again = VlaPolicy.load(tmp_path / "ours")
    assert again.config == dataclasses.replace(config, means=MEANS, stds=STDS)
    for name, weight in policy.network.state_dict().items():
        assert torch.equal(weight, again.network.state_dict()[name]), name


def test_the_preset_has_the_published_size(libero):
    joints = tuple(Joint(name=f"{n}", lower=-1, upper=1, max_velocity=1, max_acceleration=1) for n in range(14))
    dual = dataclasses.replace(libero(2), joints=joints)
    config = openvla_7b(dual)
    network = OpenVlaNetwork.without_memory(config)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    published_shapes = weights.published_shapes(shapes, config)
    assert published_shapes["vision_backbone.featurizer.blocks.22.attn.qkv.weight"] == (3072, 1024)
    assert published_shapes["vision_backbone.fused_featurizer.blocks.25.mlp.fc1.weight"] == (4304, 1152)
    assert published_shapes["projector.fc1.weight"] == (8704, 2176)
    assert published_shapes["language_model.lm_head.weight"] == (32064, 4096)
    assert 7.3e9 < sum(value.numel() for value in network.parameters()) < 7.6e9
