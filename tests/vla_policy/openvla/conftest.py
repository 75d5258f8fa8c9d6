"""A folder laid out as OpenVLA-OFT's are, with the true vocabulary and everything else tiny."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from vla_policy.embodiment import Camera, Embodiment, Joint
from vla_policy.openvla.config import LIBERO_IMAGES
from vla_policy.openvla.reading import Reading
from vla_policy.types import Observation

HIDDEN, LAYERS, MLP, VOCABULARY = 32, 2, 48, 32064
DINOV2 = {"width": 32, "blocks": 3, "mlp": 128}
SIGLIP = {"width": 48, "blocks": 3, "mlp": 80}
PATCH, IMAGE = 14, 28
WORDS = (
    "In: What action should the robot take to Out: pick up black bowl put it on plate open drawer "
    "pick, turn stove ? lift"
)
STATE = 8
CONFIG = {
    "architectures": ["OpenVLAForActionPrediction"],
    "auto_map": {
        "AutoConfig": "configuration_prismatic.OpenVLAConfig",
        "AutoModelForVision2Seq": "modeling_prismatic.OpenVLAForActionPrediction",
    },
    "model_type": "openvla",
    "arch_specifier": "no-align+fused-gelu-mlp",
    "vision_backbone_id": "dinosiglip-vit-so-224px",
    "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
    "use_fused_vision_backbone": True,
    "image_sizes": [IMAGE, IMAGE],
    "image_resize_strategy": "resize-naive",
    "pad_to_multiple_of": 64,
    "pad_token_id": 32000,
    "n_action_bins": 256,
    "torch_dtype": "bfloat16",
    "something_of_their_own": 3,
    "text_config": {
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "pad_token_id": 32000,
        "hidden_size": HIDDEN,
        "intermediate_size": MLP,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
    },
}
PROCESSOR = {
    "auto_map": {"AutoProcessor": "openvla/openvla-7b--processing_prismatic.PrismaticProcessor"},
    "tvf_normalize_params": [
        {"mean": [0.484375, 0.455078125, 0.40625], "std": [0.228515625, 0.2236328125, 0.224609375], "inplace": False},
        {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "inplace": False},
    ],
}

Folder = Callable[..., Path]


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """In float32, whatever the CPU can do."""
    monkeypatch.setattr("vla_policy.precision.compute_dtype", lambda _: torch.float32)


@pytest.fixture
def libero() -> Callable[[int], Embodiment]:
    """A hand moved in small steps, seen by one camera or two."""

    def make(num_cameras: int) -> Embodiment:
        names = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
        return Embodiment(
            name="libero",
            joints=tuple(
                Joint(name=name, lower=-1, upper=1, max_velocity=9, max_acceleration=99, is_gripper=name == "gripper")
                for name in names
            ),
            cameras=tuple(
                Camera(name=name, height=56, width=56, fovy=0.8) for name in ("agentview", "wrist")[:num_cameras]
            ),
            control_period=0.05,
        )

    return make


@pytest.fixture
def robot(libero) -> Embodiment:
    return libero(1)


@pytest.fixture(scope="session")
def tensors() -> dict[str, Tensor]:
    """All weights of a token checkpoint by published name, dead ones included."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * (0.3 if len(shape) == 1 else shape[-1] ** -0.5)

    made: dict[str, Tensor] = {}
    for prefix, tower, is_dinov2 in (("featurizer", DINOV2, True), ("fused_featurizer", SIGLIP, False)):
        made |= {f"vision_backbone.{prefix}.{name}": tensor for name, tensor in _tower(tower, is_dinov2, draw).items()}
    features = DINOV2["width"] + SIGLIP["width"]
    for number, (inputs, outputs) in enumerate([(features, 4 * features), (4 * features, HIDDEN), (HIDDEN, HIDDEN)]):
        made[f"projector.fc{number + 1}.weight"] = draw(outputs, inputs)
        made[f"projector.fc{number + 1}.bias"] = draw(outputs)
    made["language_model.model.embed_tokens.weight"] = draw(VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        prefix = f"language_model.model.layers.{layer}"
        for name in "qkvo":
            made[f"{prefix}.self_attn.{name}_proj.weight"] = draw(HIDDEN, HIDDEN)
        for name, shape in (("gate", (MLP, HIDDEN)), ("up", (MLP, HIDDEN)), ("down", (HIDDEN, MLP))):
            made[f"{prefix}.mlp.{name}_proj.weight"] = draw(*shape)
        for name in ("input", "post_attention"):
            made[f"{prefix}.{name}_layernorm.weight"] = 1 + draw(HIDDEN)
    made["language_model.model.norm.weight"] = 1 + draw(HIDDEN)
    made["language_model.lm_head.weight"] = draw(VOCABULARY, HIDDEN)
    return made


@pytest.fixture(scope="session")
def proprio() -> dict[str, Tensor]:
    """Weights of the proprio projector, by their names in a file of their own."""
    torch.manual_seed(6)
    layers = {"fc1": torch.nn.Linear(STATE, HIDDEN), "fc2": torch.nn.Linear(HIDDEN, HIDDEN)}
    return {
        f"{name}.{kind}": value.detach() for name, layer in layers.items() for kind, value in layer.named_parameters()
    }


@pytest.fixture(scope="session")
def l1() -> dict[str, Tensor]:
    """Weights of an L1 head for seven actions."""
    generator = torch.Generator().manual_seed(7)
    shapes = {"layer_norm1": 7 * HIDDEN, "layer_norm2": HIDDEN}
    shapes |= {f"mlp_resnet_blocks.{block}.ffn.0": HIDDEN for block in range(2)}
    made = {f"model.{name}.weight": 1 + 0.3 * torch.randn(size, generator=generator) for name, size in shapes.items()}
    made |= {f"model.{name}.bias": 0.3 * torch.randn(size, generator=generator) for name, size in shapes.items()}
    linear = {"fc1": (HIDDEN, 7 * HIDDEN), "fc2": (7, HIDDEN)}
    linear |= {f"mlp_resnet_blocks.{block}.ffn.1": (HIDDEN, HIDDEN) for block in range(2)}
    for name, (outputs, inputs) in linear.items():
        made[f"model.{name}.weight"] = torch.randn(outputs, inputs, generator=generator) * inputs**-0.5
        made[f"model.{name}.bias"] = 0.3 * torch.randn(outputs, generator=generator)
    return made


@pytest.fixture(scope="session")
def datasets() -> dict[str, Any]:
    """Statistics as LIBERO's: six numbers scaled, the gripper as it is."""
    rng = np.random.default_rng(8)

    def spread(size: int) -> dict[str, list[float]]:
        low, high = -rng.uniform(0.5, 1, size), rng.uniform(0.5, 1, size)
        bounds = {"min": 1.1 * low, "max": 1.1 * high, "q01": low, "q99": high, "mean": 0 * low, "std": 0 * low + 0.3}
        return {name: values.tolist() for name, values in bounds.items()}

    action = spread(7) | {"mask": [True] * 6 + [False]}
    entry = {"action": action, "proprio": spread(STATE), "num_transitions": 52970, "num_trajectories": 432}
    return {"libero_spatial_no_noops": entry}


@pytest.fixture
def make_folder(tmp_path, tensors, proprio, l1, datasets) -> Folder:
    """Write a folder.

    `kind` of proprio projector is None, 'pt' or 'safetensors'; `cameras` are said in a `reading.json`; `change` may
    alter the weights, `config` keys.
    """

    def make(
        name: str = "published", kind: str | None = None, with_l1: bool = False, cameras=None, change=None, **config
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        weights = dict(tensors)
        if kind == "safetensors":
            weights |= {f"proprio_projector.{key}": value for key, value in proprio.items()}
        elif kind == "pt":
            stored = {f"module.{key}": value for key, value in proprio.items()}
            torch.save(stored, folder / "proprio_projector--150000_checkpoint.pt")
        if with_l1:
            stored = {f"module.{key}": value for key, value in l1.items()}
            torch.save(stored, folder / "action_head--150000_checkpoint.pt")
        if change is not None:
            change(weights)
        _write_shards(folder, weights)
        if cameras:
            (folder / "reading.json").write_text(_reading(cameras).to_json())
        (folder / "config.json").write_text(json.dumps(CONFIG | config))
        (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
        (folder / "dataset_statistics.json").write_text(json.dumps(datasets))
        (folder / "generation_config.json").write_text('{"bos_token_id": 1}')
        (folder / "tokenizer.model").write_bytes(b"\x0a\x0e\x00")
        (folder / "tokenizer.json").write_text(_tokenizer().to_str())
        return folder

    return make


@pytest.fixture
def observe(robot) -> Callable[[int], list[Observation]]:
    """Random observations with prompts of one length or of several."""

    def make(count: int, instruction: str | None = None, cameras: tuple[str, ...] = ("agentview", "wrist")):
        rng = np.random.default_rng(9)
        texts = ("Pick up the black bowl", "open the drawer", "put it on the plate ? lift")
        return [
            Observation(
                images={name: _photo(rng) for name in cameras},
                state=rng.uniform(-1, 1, STATE).astype(np.float32),
                instruction=instruction or texts[number % len(texts)],
                stamp=float(number),
            )
            for number in range(count)
        ]

    return make


def _reading(cameras: tuple[str, ...]) -> Reading:
    """As LIBERO's, of more cameras."""
    return Reading(camera_names=cameras, chunk_length=8, normalisation="bounds_q99", images=LIBERO_IMAGES)


def _photo(rng: np.random.Generator) -> np.ndarray:
    """Smooth with some noise, 56 x 56."""
    rows, columns = np.mgrid[0:56, 0:56]
    waves = np.stack([np.sin(rows / rng.uniform(4, 9)), np.cos(columns / rng.uniform(4, 9)), np.sin(rows / 7)], -1)
    return np.clip(127 + 100 * waves + rng.normal(0, 5, waves.shape), 0, 255).astype(np.uint8)


def _tower(sizes: dict[str, int], is_dinov2: bool, draw: Callable[..., Tensor]) -> dict[str, Tensor]:
    width, mlp = sizes["width"], sizes["mlp"]
    made = {
        "patch_embed.proj.weight": draw(width, 3, PATCH, PATCH),
        "patch_embed.proj.bias": draw(width),
        "pos_embed": draw(1, (IMAGE // PATCH) ** 2, width),
        "norm.weight": draw(width),
        "norm.bias": draw(width),
    }
    if is_dinov2:
        made |= {"cls_token": draw(1, 1, width), "reg_token": draw(1, 4, width)}
    else:
        made |= {"attn_pool.latent": draw(1, 1, width), "attn_pool.q.weight": draw(width, width)}
    for block in range(sizes["blocks"]):
        for name, shape in (("attn.qkv", (3 * width, width)), ("attn.proj", (width, width))):
            made |= {f"blocks.{block}.{name}.weight": draw(*shape), f"blocks.{block}.{name}.bias": draw(shape[0])}
        for name, shape in (("mlp.fc1", (mlp, width)), ("mlp.fc2", (width, mlp))):
            made |= {f"blocks.{block}.{name}.weight": draw(*shape), f"blocks.{block}.{name}.bias": draw(shape[0])}
        for name in ("norm1", "norm2"):
            made |= {f"blocks.{block}.{name}.weight": 1 + draw(width), f"blocks.{block}.{name}.bias": draw(width)}
        if is_dinov2:
            made |= {f"blocks.{block}.{name}.scale_factor": draw(width) for name in ("ls1", "ls2")}
    return made


def _write_shards(folder: Path, weights: dict[str, Tensor]) -> None:
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    placed = {name: files[name.startswith("language_model")] for name in weights}
    for file in files:
        save_file({name: weights[name] for name in weights if placed[name] == file}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": placed}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _tokenizer() -> Tokenizer:
    words = dict.fromkeys(WORDS.lower().split() + WORDS.split())
    ids = {word: 100 + 7 * number for number, word in enumerate(words)} | {"<unk>": 0, "<PAD>": 32000, "": 29871}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer
